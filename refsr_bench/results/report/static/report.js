// Sorting and filtering of the tables. Without this script every table is still whole and readable.
"use strict";

(() => {
  const MOST_GROUPS = 9; // more of them would hide the runs: they are shown when asked for
  const collator = new Intl.Collator("en", { numeric: true });

  function valueOf(row, column) {
    const cell = row.cells[column];
    return cell.hasAttribute("data-value") ? cell.dataset.value : cell.textContent.trim();
  }

  // Rows are sorted; where a table has one tbody a run, whole runs are, by their first row.
  function sortTable(table, column, direction, asText) {
    const several = table.tBodies.length > 1;
    const items = several ? [...table.tBodies] : [...table.tBodies[0].rows];
    const keyed = items.map((item, position) => [valueOf(several ? item.rows[0] : item, column), position, item]);
    keyed.sort(([a, i], [b, j]) => {
      if (a === "" || b === "") return (a === "") - (b === "") || i - j; // what is missing stays last
      const order = asText ? collator.compare(a, b) : Number(a) - Number(b);
      return direction * order || i - j;
    });
    const parent = several ? table : table.tBodies[0];
    for (const [, , item] of keyed) parent.append(item);
  }

  function makeSortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const asText = head.dataset.sort === "text" || !head.classList.contains("number");
      const first = asText || head.dataset.sort === "up" ? 1 : -1;
      const label = head.firstChild;
      const button = document.createElement("button");
      button.type = "button";
      head.insertBefore(button, label);
      if (label.nodeType === Node.TEXT_NODE) button.append(label);
      else button.textContent = "sort";
      button.title = "Sort";
      button.addEventListener("click", () => {
        const sorted = head.getAttribute("aria-sort");
        const direction = sorted ? (sorted === "ascending" ? -1 : 1) : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
        sortTable(table, column, direction, asText);
      });
    });
  }

  function makeFilters(form) {
    const text = document.getElementById("filter-text");
    const dataset = document.getElementById("filter-dataset");
    const protocol = document.getElementById("filter-protocol");
    const kind = document.getElementById("filter-kind");
    const groups = document.getElementById("show-groups");
    const shown = document.getElementById("shown");
    const sections = [...document.querySelectorAll("section.table")];
    const overview = document.getElementById("overview-table");
    const runs = sections.flatMap((section) => [...section.querySelectorAll(".sortable tbody")]);
    if (!document.querySelector("tr.group")) groups.parentElement.hidden = true;
    groups.checked = Math.max(0, ...runs.map((body) => body.rows.length)) <= MOST_GROUPS;

    function matches(body) {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      return (!kind.value || body.dataset.kind === kind.value) && words.every((word) => body.dataset.text.includes(word));
    }

    function apply() {
      let count = 0;
      for (const section of sections) {
        const wanted = (!dataset.value || section.dataset.dataset === dataset.value)
          && (!protocol.value || section.dataset.protocol === protocol.value);
        let here = 0;
        for (const body of section.querySelectorAll(".sortable tbody")) {
          body.hidden = !(wanted && matches(body));
          here += !body.hidden;
        }
        section.hidden = !here;
        count += here;
      }
      if (overview) for (const body of overview.tBodies) body.hidden = !matches(body);
      for (const row of document.querySelectorAll("tr.group")) row.hidden = !groups.checked;
      shown.textContent = `${count} of ${runs.length} runs shown`;
    }

    form.hidden = false;
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  // A link to an explanation opens it.
  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView({ block: "nearest" });
    }
  }

  document.querySelectorAll("table.sortable").forEach(makeSortable);
  const filters = document.getElementById("filters");
  if (filters) makeFilters(filters);
  addEventListener("hashchange", openTarget);
  openTarget();
})();
