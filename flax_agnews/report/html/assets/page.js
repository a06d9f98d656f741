"use strict";
// What all parts of the page share. Data becomes text nodes only, never markup.

const data = JSON.parse(document.getElementById("page-data").textContent);
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

/** An element with attributes and children, which are elements or plain texts. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The rows of a table that is kept as columns. */
function rowsOf(name) {
  const columns = Object.entries(data.tables[name]);
  if (!columns.length) return [];
  return columns[0][1].map((_, row) => Object.fromEntries(columns.map(([key, values]) => [key, values[row]])));
}

/** The table of contents, from the sections' headings. */
function fillContents() {
  for (const section of all("main > section[data-short]")) {
    find("#contents").append(element("li", {}, element("a", { href: `#${section.id}` }, section.dataset.short)));
  }
}

/** The button that switches between light and dark; before it is used, the system decides. */
function startTheme() {
  const button = find("#theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", dark());
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  show();
}
