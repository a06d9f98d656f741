// Texts that a cell of a confusion matrix, or a list of hard texts, opens.

const AT_ONCE = 25;
let unpacked; // a promise of the texts and the cells' lists

/** Unpacks the texts at their first use: base64 of gzip of JSON. */
async function packedTexts() {
  const bytes = Uint8Array.from(atob(find("#page-texts").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** A text with its class, where it came from, and what the strategies answered. */
function article(number, [content, label, origin, answers]) {
  const right = [];
  const wrong = new Map(); // class -> who answered so
  for (const [place, ...given] of answers) {
    const seeds = given.filter((_, index) => index % 2).reduce((sum, count) => sum + count, 0);
    for (let k = 0; k < given.length; k += 2) {
      const share = seeds === given[k + 1] ? "" : ` ${given[k + 1]}/${seeds}`;
      const who = `${data.names[place]}${share}`;
      if (given[k] === label) right.push(who);
      else wrong.set(given[k], [...(wrong.get(given[k]) ?? []), who]);
    }
  }
  const answered = element("dl", {});
  const line = (name, mark, who) => {
    answered.append(element("dt", {}, `${mark} ${name}`), element("dd", {}, who.join(", ") || "nobody"));
  };
  line(data.classes[label], "✓", right);
  for (const [given, who] of wrong) line(data.classes[given], "✗", who);
  const head = element("p", { class: "origin" }, `Text ${number}`, origin ? ` · ${origin}` : "");
  return element("article", {}, head, element("p", { class: "content", dir: "auto" }, content), answered);
}

/** Opens the dialog with the texts of these numbers, some at once; `total` counts those that the page lacks too. */
async function openTexts(title, numbersOf, total) {
  const dialog = find("#opened");
  const list = find("#opened-list");
  const more = find("#opened-more");
  find("#opened-title").textContent = title;
  find("#opened-note").textContent = "Unpacking…";
  list.replaceChildren();
  more.hidden = true;
  dialog.showModal();
  unpacked ??= packedTexts();
  const kept = await unpacked;
  const numbers = numbersOf(kept);
  const absent = total - numbers.length;
  const rest = absent > 0 ? ` ${absent.toLocaleString("en")} more are not in this page, because of its size.` : "";
  find("#opened-note").textContent = `${total.toLocaleString("en")} text${total === 1 ? "" : "s"}.${rest}`;
  const show = () => {
    const from = list.children.length;
    list.append(...numbers.slice(from, from + AT_ONCE).map((number) => article(number, kept.texts[number])));
    more.hidden = list.children.length >= numbers.length;
    more.textContent = `Show more (${(numbers.length - list.children.length).toLocaleString("en")} left)`;
  };
  more.onclick = show;
  show();
  dialog.scrollTop = 0;
}

function startTexts() {
  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.("[data-cell], [data-list]");
    if (!button) return;
    const { cell, list, title, total } = button.dataset;
    const numbersOf = cell ? (kept) => kept.cells[cell].map(([number]) => number) : () => list.split(" ").map(Number);
    openTexts(title, numbersOf, Number(total));
  });
  find("#close").addEventListener("click", () => find("#opened").close());
}
