// Charts: drawn when they come into view, and again when what they show changes.

const drawn = new Map(); // figure -> its Vega view
const hidden = { names: new Set(), seeds: new Set(), splits: new Set(["training"]) };
const signals = { each: false };

/** The rows of a data set that are switched on. */
function chosenRows(name) {
  return rowsOf(name).filter(
    (row) => !hidden.names.has(row.name) && !hidden.seeds.has(row.seed) && !hidden.splits.has(row.split),
  );
}

/** Differences of all others from one entry. */
function differencesFrom(base) {
  const order = new Map(data.names.map((name, place) => [name, place]));
  const signed = (value) => (value === null ? null : -value);
  const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
  return rowsOf("pairs")
    .filter((pair) => pair.a === base || pair.b === base)
    .map((pair) => {
      const turned = pair.a === base;
      const [low, high] = turned ? [signed(pair.high), signed(pair.low)] : [pair.low, pair.high];
      const interval = low === null ? "" : `${points(low)} to ${points(high)}`;
      const difference = turned ? -pair.difference : pair.difference;
      return { name: turned ? pair.b : pair.a, against: base, difference, low, high, interval, p: pair.p };
    })
    .sort((a, b) => order.get(a.name) - order.get(b.name));
}

const datasets = {
  curves: () => ({ curves: chosenRows("curves") }),
  pareto: (cost) => ({ entries: chosenRows("entries").filter((row) => row[cost] > 0) }),
  forest: () => ({ differences: differencesFrom(find("#against").value), zero: [{ zero: 0 }] }),
  calibration: () => ({ calibration: chosenRows("calibration") }),
  search: () => ({ search: chosenRows("search").filter((row) => row.accuracy !== null) }),
  classes: () => ({ classes: chosenRows("classes") }),
};

/** The specification of a figure with its data, and for small charts their number in a row and their width. */
function specificationOf(figure) {
  const name = figure.dataset.chart;
  const choice = find(`input[name="${name}"]:checked`);
  const spec = structuredClone(data.specifications[choice ? `${name}-${choice.value}` : name]);
  spec.datasets = datasets[name](choice?.value);
  // On a phone, names beside points would lie on each other.
  if (name === "pareto" && figure.clientWidth < 560) spec.layer = spec.layer.filter((layer) => layer.mark.type !== "text");
  if (spec.usermeta?.row) spec.height = spec.usermeta.row * Math.max(spec.datasets.differences.length, 1);
  const small = spec.usermeta?.small;
  if (small) {
    const [labels, gap] = [name === "classes" ? 110 : 56, 18];
    const room = figure.clientWidth - labels;
    const least = room < 420 && name !== "classes" ? 110 : small.width; // two in a row on a phone
    const count = new Set(spec.datasets[name].map((row) => row.title)).size;
    spec.columns = Math.max(1, Math.min(Math.floor(room / (least + gap)), count));
    spec.spec.width = Math.min(Math.floor(room / spec.columns) - gap, 460);
    if (small.square) spec.spec.height = spec.spec.width = Math.min(spec.spec.width, 260);
    else if (name === "search") spec.spec.height = 110;
  }
  return spec;
}

/** The tooltip: names and values as texts, beside the pointer. */
function showTip(_, event, item, value) {
  const tip = find("#tip");
  tip.hidden = !value;
  if (!value) return;
  // Where the nearest marker is pointed at, Vega-Lite 6.4 looks for texts one level too high and finds "undefined".
  const row = { strategy: item.datum.datum?.name, ...item.datum.datum };
  const known = Object.entries(value).map(([key, text]) => [key, text === "undefined" ? row[key] : text]);
  const pairs = known.filter(([, text]) => text !== "" && text !== null);
  tip.replaceChildren(
    element("dl", {}, ...pairs.flatMap(([key, text]) => [element("dt", {}, key), element("dd", {}, String(text))])),
  );
  const { width, height } = tip.getBoundingClientRect();
  const left = event.clientX + 16 + width < innerWidth ? event.clientX + 16 : event.clientX - 16 - width;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4))}px`;
}

/** Draws a figure; of several drawings that are under way at once, the last one stays. */
async function draw(figure) {
  const turn = (figure.turn ?? 0) + 1;
  figure.turn = turn;
  delete figure.dataset.drawn;
  find("#tip").hidden = true;
  const spec = specificationOf(figure);
  if (!Object.values(spec.datasets)[0].length) return drawNothing(figure);
  const plot = element("div");
  const options = {
    mode: "vega-lite",
    renderer: "svg",
    actions: false,
    ast: true, // expressions are interpreted: the page's policy forbids compiling them
    tooltip: showTip,
    patch: figure.dataset.chart === "curves" ? withSignals : undefined,
  };
  const frame = find(".plot", figure);
  frame.append(plot); // widths are measured in place
  plot.style.position = "absolute";
  plot.style.width = "100%";
  const { view } = await vegaEmbed(plot, spec, options);
  if (figure.turn !== turn) {
    view.finalize();
    plot.remove();
    return;
  }
  drawn.get(figure)?.finalize();
  frame.replaceChildren(plot);
  plot.style.position = "";
  drawn.set(figure, view);
  figure.dataset.drawn = figure.clientWidth;
}

function drawNothing(figure) {
  drawn.get(figure)?.finalize();
  drawn.set(figure, { finalize() {} });
  find(".plot", figure).replaceChildren(element("p", {}, "Nothing to show."));
  figure.dataset.drawn = figure.clientWidth;
}

/** Sets the compiled specification's signals to what is switched on. */
function withSignals(spec) {
  for (const signal of spec.signals) if (signal.name in signals) signal.value = signals[signal.name];
  return spec;
}

const drawAgain = () => all("[data-chart]").filter((figure) => figure.turn).forEach(draw);

/** The buttons of strategies stand above several charts and act together. */
function startChips() {
  const update = () => {
    for (const chip of all("[data-chip]")) chip.setAttribute("aria-pressed", !hidden.names.has(chip.dataset.chip));
    drawAgain();
  };
  for (const chip of all("[data-chip]")) {
    chip.addEventListener("click", () => {
      const { chip: name } = chip.dataset;
      if (!hidden.names.delete(name)) hidden.names.add(name);
      update();
    });
  }
  for (const button of all("[data-every]")) {
    button.addEventListener("click", () => {
      hidden.names = new Set(button.dataset.every ? [] : data.names);
      update();
    });
  }
}

/** Choices that belong to one chart. */
function startChoices() {
  const redraw = (name) => () => draw(find(`[data-chart="${name}"]`));
  for (const name of ["curves", "pareto", "classes"]) {
    for (const input of all(`input[name="${name}"]`)) input.addEventListener("input", redraw(name));
  }
  find("#against")?.addEventListener("input", redraw("forest"));
  const toggles = { seed: [hidden.seeds, Number], split: [hidden.splits, String] };
  for (const [key, [set, parse]] of Object.entries(toggles)) {
    for (const input of all(`[data-${key}]`)) {
      input.addEventListener("input", () => {
        const value = parse(input.dataset[key]);
        if (input.checked) set.delete(value);
        else set.add(value);
        redraw("curves")();
      });
    }
  }
  for (const input of all("[data-signal]")) {
    input.addEventListener("input", () => {
      signals[input.dataset.signal] = input.checked;
      redraw("curves")();
    });
  }
}

/** Draws each chart shortly before it is seen, all before printing, and again where the width has changed. */
function startCharts() {
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        if (!target.turn) draw(target);
      }
    },
    { rootMargin: "300px" },
  );
  for (const figure of all("[data-chart]")) observer.observe(figure);
  addEventListener("beforeprint", () => all("[data-chart]").filter((figure) => !figure.turn).forEach(draw));
  let later;
  addEventListener("resize", () => {
    clearTimeout(later);
    const changed = () => [...drawn.keys()].filter((figure) => figure.clientWidth !== Number(figure.dataset.drawn));
    later = setTimeout(() => changed().forEach(draw), 150);
  });
  addEventListener("scroll", () => (find("#tip").hidden = true), { passive: true });
}
