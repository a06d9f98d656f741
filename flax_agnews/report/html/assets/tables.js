// Tables: sorting by any column, and the leaderboard's filters.

/** The value that a cell is sorted by: its number, else its text; null goes last. */
function sortValue(row, column) {
  const cell = row.cells[column];
  if (!("sort" in cell.dataset)) return cell.textContent.trim().toLowerCase();
  return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

/** Sorts a table's rows; a second click turns the order round, rows without a number stay last. */
function sortBy(table, heading) {
  const column = heading.cellIndex;
  const before = heading.getAttribute("aria-sort");
  const first = heading.dataset.best === "high" ? "descending" : "ascending";
  const order = before ? (before === "ascending" ? "descending" : "ascending") : first;
  for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const keyed = all("tr", table.tBodies[0]).map((row) => [sortValue(row, column), row]);
  keyed.sort(([a], [b]) => (a === null || b === null || order === "ascending" ? compare(a, b) : compare(b, a)));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

/** Puts a button into each heading, so that the keyboard sorts too. */
function startSorting() {
  for (const table of all("table.sortable")) {
    for (const heading of all("thead th:not([data-no-sort])", table)) {
      const button = element("button", { type: "button", class: "sort" }, ...heading.childNodes);
      button.addEventListener("click", () => sortBy(table, heading));
      heading.append(button);
    }
  }
}

/** Name, Pareto front, references and further costs of the leaderboard. */
function startLeaderboard() {
  const board = find("#board");
  const rows = all("tbody tr", board);
  const update = () => {
    const text = find("#filter").value.trim().toLowerCase();
    const front = find("#front").value;
    for (const row of rows) {
      row.hidden =
        !row.dataset.name.toLowerCase().includes(text) ||
        (front !== "" && !row.dataset.fronts.split(" ").includes(front)) ||
        (row.classList.contains("reference") && !find("#references").checked);
    }
    find("#shown").value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  };
  for (const id of ["#filter", "#front", "#references"]) find(id).addEventListener("input", update);
  find("#all-costs").addEventListener("input", (event) => board.classList.toggle("all", event.target.checked));
  update();
}
