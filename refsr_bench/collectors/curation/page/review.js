"use strict";
// One page, two homes: served by `curate review` (decisions are posted) or a file (decisions are saved to a file).
// Decisions are kept in this browser until the server has confirmed them, so neither a closed tab nor a killed server
// loses one. Hostile text in titles is only ever set as text.

const PER_PAGE = 10;
const REASONS = ["no candidate shows the scene", "too different a view", "too low a quality", "the query is unusable"];
const $ = (id) => document.getElementById(id);
const inline = document.getElementById("data");
let data = null, reviewer = "", queue = [], decisions = [];
let at = 0, page = 0, here = 0, zoomed = false, scale = 1, pan = [0, 0], sending = false, lost = false;

const key = () => `refsr-review:${data.id}:${encodeURIComponent(reviewer)}`;
const now = () => new Date().toISOString().replace(/\.\d+Z$/, "Z");
const identity = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// --- what was decided ----------------------------------------------------------------------------------------------

function standing(query) {
  const undone = new Set(decisions.filter((d) => d.action === "undo").map((d) => d.undoes));
  const mine = decisions.filter((d) => d.query === query && !undone.has(d.id));
  return {
    verdict: mine.filter((d) => d.action === "choose" || d.action === "reject").at(-1) || null,
    tag: mine.filter((d) => d.action === "tag").at(-1) || null,
  };
}

const isDone = (query) => (data.tags_only ? standing(query.name).tag : standing(query.name).verdict) !== null;

function decide(query, action, more = {}) {
  const decision = { id: identity(), time: now(), reviewer, query, action, blind: data.blind, ...more };
  decisions.push(decision);
  queue.push(decision);
  keep(decision);
  show();
  send();
}

function undo() {
  const undone = new Set(decisions.filter((d) => d.action === "undo").map((d) => d.undoes));
  const last = decisions.filter((d) => d.action !== "undo" && !undone.has(d.id)).at(-1);
  if (!last) return say("nothing to undo");
  const where = data.queries.findIndex((query) => query.name === last.query);
  if (where >= 0) go(where);
  decide(last.query, "undo", { undoes: last.id });
}

// --- keeping and sending ---------------------------------------------------------------------------------------------

// Every decision has a place of its own, in the order in which they were made: two tabs do not overwrite each other's.

function keep(decision) {
  const name = [key(), String(Date.now()).padStart(15, "0"), String(decisions.length).padStart(6, "0"), decision.id].join(":");
  try {
    localStorage.setItem(name, JSON.stringify(decision));
  } catch (error) {
    say(`this browser cannot keep decisions: ${error.message}`);
  }
}

const places = () => Object.keys(localStorage).filter((name) => name.startsWith(`${key()}:`)).sort();
const keptHere = () => places().map((name) => JSON.parse(localStorage.getItem(name)));

function forget(decision) {
  for (const name of places()) if (name.endsWith(`:${decision.id}`)) localStorage.removeItem(name);
}

async function send() {
  if (inline) return showSaved();
  if (sending) return;
  sending = true;
  while (queue.length) {
    try {
      const answer = await fetch("/decide", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(queue[0]),
      });
      if (answer.status === 400) say(`refused: ${await answer.text()}`);
      else if (!answer.ok) throw new Error(String(answer.status));
      forget(queue.shift());
      if (lost) { lost = false; show(); } // pictures that could not be loaded meanwhile
    } catch (error) {
      lost = true;
      showSaved();
      setTimeout(() => { sending = false; send(); }, 1500);
      return;
    }
  }
  sending = false;
  showSaved();
}

function showSaved() {
  const box = $("save"), kept = queue.length === 1 ? "1 decision" : `${queue.length} decisions`;
  if (inline) {
    box.textContent = `${kept} kept in this browser`;
  } else {
    box.className = queue.length ? "waiting" : "";
    box.textContent = queue.length ? `server not reached: ${kept} kept here, sent when it is back` : "all saved";
  }
}

function exportDecisions() {
  const blob = new Blob([JSON.stringify({ decisions }, null, 1)], { type: "application/json" });
  const link = make("a", "", { href: URL.createObjectURL(blob), download: `decisions-${reviewer}.json` });
  document.body.append(link);
  link.click();
  link.remove();
}

// --- showing ---------------------------------------------------------------------------------------------------------

const picture = (sha, size) => (inline ? `pictures/${size}/${sha}.jpg` : `/picture/${size}/${sha}`);
const current = () => data.queries[at];
const pages = () => Math.max(1, Math.ceil(current().candidates.length / PER_PAGE));
const onPage = () => current().candidates.slice(page * PER_PAGE, (page + 1) * PER_PAGE);

function say(text) {
  $("state").textContent = text;
  $("state").className = "";
}

function go(where) {
  at = Math.max(0, Math.min(data.queries.length - 1, where));
  page = 0;
  here = 0;
  location.hash = encodeURIComponent(current().name);
  show();
  scrollTo(0, 0);
}

function next() {
  for (let step = 1; step <= data.queries.length; step += 1) {
    const where = (at + step) % data.queries.length;
    if (!isDone(data.queries[where])) return go(where);
  }
  go(at + 1);
}

function describe(candidate) {
  const parts = [];
  if (!data.blind && candidate.score !== null) parts.push(`${candidate.inliers} matches`);
  parts.push(`${candidate.width}×${candidate.height}`, candidate.licence, candidate.creator, candidate.title);
  return parts.filter(Boolean).join(" · ");
}

function card(candidate, place, chosen) {
  const box = make("button", "", { class: "card", type: "button", title: describe(candidate) });
  if (place === here) box.classList.add("here");
  if (candidate.sha256 === chosen) box.classList.add("chosen");
  const image = make("img", "", { src: picture(candidate.sha256, "small"), alt: `candidate ${place + 1}`, loading: "lazy" });
  const line = make("div", "", { class: "text" });
  line.append(make("span", String((place + 1) % 10), { class: "key" }), ` ${describe(candidate)}`);
  box.append(image, line);
  box.addEventListener("click", () => { here = place; choose(place); });
  return box;
}

function show() {
  const query = current(), { verdict, tag } = standing(query.name);
  const done = data.queries.filter(isDone).length;
  $("title").textContent = data.title;
  $("done").style.width = `${(100 * done) / data.queries.length}%`;
  $("count").textContent = `${at + 1} of ${data.queries.length} · ${done} done`;
  $("who").textContent = data.blind ? `${reviewer} (blind)` : reviewer;
  $("name").textContent = query.name;
  $("picture").src = picture(query.sha256, "large");
  $("picture").alt = `query ${query.name}`;
  $("about").textContent = [`${query.width}×${query.height}`, query.text].filter(Boolean).join(" · ");
  $("tags").replaceChildren(...data.categories.map((category, place) => {
    const pressed = tag !== null && tag.category === category;
    const button = make("button", data.tags_only ? `${place + 1} ${category}` : category, { type: "button", "aria-pressed": String(pressed) });
    button.addEventListener("click", () => decide(query.name, "tag", { category }));
    return button;
  }));
  const state = $("state");
  state.className = verdict === null ? "" : verdict.action === "choose" ? "chosen" : "rejected";
  if (verdict === null) state.textContent = data.tags_only ? "" : "not decided";
  else if (verdict.action === "reject") state.textContent = `no reference: ${verdict.reason}`;
  else state.textContent = `chosen: candidate ${query.candidates.findIndex((c) => c.sha256 === verdict.reference) + 1}`;
  const chosen = verdict !== null ? verdict.reference : null;
  $("pool").hidden = data.tags_only;
  $("page").textContent = query.candidates.length ? `candidates ${page * PER_PAGE + 1} to ${page * PER_PAGE + onPage().length} of ${query.candidates.length}` : "no candidates: R rejects the query";
  $("grid").replaceChildren(...onPage().map((candidate, place) => card(candidate, place, chosen)));
  if (zoomed) showZoom();
  showSaved();
}

// --- zoom ------------------------------------------------------------------------------------------------------------

function showZoom() {
  const candidate = onPage()[here];
  if (!candidate) return closeZoom();
  zoomed = true;
  $("zoom").hidden = false;
  $("zoomquery").src = picture(current().sha256, "large");
  $("zoomcandidate").src = picture(candidate.sha256, "large");
  $("zoomcaption").textContent = `candidate ${(here + 1) % 10}: ${describe(candidate)}`;
  for (const id of ["zoomquery", "zoomcandidate"]) $(id).style.transform = `translate(${pan[0]}px, ${pan[1]}px) scale(${scale})`;
}

function closeZoom() {
  zoomed = false;
  scale = 1;
  pan = [0, 0];
  $("zoom").hidden = true;
}

function magnify(factor) {
  scale = Math.max(1, Math.min(12, scale * factor));
  if (scale === 1) pan = [0, 0];
  showZoom();
}

// --- keys ------------------------------------------------------------------------------------------------------------

function choose(place) {
  const candidate = onPage()[place];
  if (!candidate) return say(`there is no candidate ${(place + 1) % 10} on this page`);
  here = place;
  decide(current().name, "choose", { reference: candidate.sha256 });
}

function openDialog(title, options, onPick, free) {
  const dialog = $("dialog"), body = $("dialogbody");
  $("dialogtitle").textContent = title;
  const close = () => {
    document.activeElement.blur(); // until the next frame it would stay focused, unseen, and swallow the next key
    dialog.close();
  };
  const pick = (value) => { close(); onPick(value); };
  body.replaceChildren(...options.map((option, place) => {
    const button = make("button", "", { type: "button" });
    button.append(make("kbd", String(place + 1)), ` ${option}`);
    button.addEventListener("click", () => pick(option));
    return button;
  }));
  if (free) {
    const input = make("input", "", { "aria-label": free, placeholder: `${free} (Enter)`, maxlength: "300" });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && input.value.trim()) pick(input.value.trim());
      if (input.value && /^[1-9]$/.test(event.key)) event.stopPropagation(); // part of the text, not a choice
    });
    body.append(input);
  }
  dialog.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Escape") { event.preventDefault(); close(); }
    if (/^[1-9]$/.test(event.key) && options[event.key - 1]) { event.preventDefault(); pick(options[event.key - 1]); }
  };
  dialog.showModal();
  (body.querySelector("input") || body.querySelector("button") || dialog).focus();
}

const reject = () => openDialog("No reference, because", REASONS, (reason) => decide(current().name, "reject", { reason }), "another reason");
const tag = () => openDialog("Category", data.categories, (category) => decide(current().name, "tag", { category }));

function help() {
  const rows = data.tags_only
    ? [["1 … 6", "category"], ["N", "next without one"], ["P", "previous"], ["U", "undo"]]
    : [["1 … 9, 0", "choose the candidate"], ["← →", "move the frame"], ["Enter", "choose the framed one"], ["PageDown PageUp", "more candidates"],
       ["Z", "zoom side by side; + and − magnify, arrows change the candidate, Shift+arrows move, Z or Esc closes"],
       ["R", "reject the query, with a reason"], ["T", "category"], ["U", "undo"], ["N", "next undecided"], ["P", "previous"]];
  openDialog("Keys", [], () => {});
  const table = make("table", "");
  for (const [name, what] of rows) {
    const row = make("tr", ""), cell = make("td", "");
    cell.append(make("kbd", name));
    row.append(cell, make("td", what));
    table.append(row);
  }
  $("dialogbody").replaceChildren(table, make("p", "Esc closes this."));
}

function move(step) {
  const count = onPage().length;
  here += step;
  if (here >= count) { if (page + 1 < pages()) { page += 1; here = 0; } else here = count - 1; }
  if (here < 0) { if (page > 0) { page -= 1; here = PER_PAGE - 1; } else here = 0; }
  show();
}

function turn(step) {
  page = Math.max(0, Math.min(pages() - 1, page + step));
  here = 0;
  show();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("dialog").open || data === null) return;
  const letter = event.key.toLowerCase();
  const keys = {
    z: () => (zoomed ? closeZoom() : showZoom()), r: reject, t: tag, u: undo, n: next, p: () => go(at - 1), "?": help,
    arrowright: () => move(1), arrowleft: () => move(-1), pagedown: () => turn(1), pageup: () => turn(-1),
    enter: () => choose(here), escape: closeZoom, "+": () => zoomed && magnify(1.5), "=": () => zoomed && magnify(1.5), "-": () => zoomed && magnify(1 / 1.5),
  };
  if (data.tags_only) for (const name of ["z", "r", "t", "enter", "arrowright", "arrowleft", "pagedown", "pageup"]) delete keys[name];
  if (zoomed && event.shiftKey && letter.startsWith("arrow")) {
    const step = { arrowleft: [80, 0], arrowright: [-80, 0], arrowup: [0, 80], arrowdown: [0, -80] }[letter];
    pan = [pan[0] + step[0], pan[1] + step[1]];
    event.preventDefault();
    return showZoom();
  }
  if (/^[0-9]$/.test(event.key)) {
    event.preventDefault();
    const place = (Number(event.key) + 9) % 10;
    if (!data.tags_only) return choose(place);
    if (data.categories[place]) { const query = current().name; decide(query, "tag", { category: data.categories[place] }); next(); }
    return;
  }
  if (event.key === "Enter" && event.target.closest && event.target.closest("button:not(.card)")) return;
  if (Object.hasOwn(keys, letter)) { event.preventDefault(); keys[letter](); }
}

let drag = null;
function onPointer(event) {
  if (event.type === "pointerdown") drag = [event.clientX - pan[0], event.clientY - pan[1]];
  else if (event.type === "pointerup") drag = null;
  else if (drag) { pan = [event.clientX - drag[0], event.clientY - drag[1]]; showZoom(); }
}

// --- beginning -------------------------------------------------------------------------------------------------------

async function begin() {
  document.addEventListener("keydown", onKey);
  for (const kind of ["pointerdown", "pointermove", "pointerup"]) $("zoom").addEventListener(kind, onPointer);
  $("zoom").addEventListener("wheel", (event) => { event.preventDefault(); magnify(event.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
  $("helpbutton").addEventListener("click", help);
  $("export").addEventListener("click", exportDecisions);
  reviewer = new URLSearchParams(location.search).get("reviewer") || (inline ? localStorage.getItem("refsr-reviewer") : "") || "";
  if (!reviewer) {
    openDialog("Who reviews?", [], (name) => { reviewer = name; if (inline) { localStorage.setItem("refsr-reviewer", name); load(); } else location.search = `?reviewer=${encodeURIComponent(name)}`; }, "your name");
    return;
  }
  load();
}

async function load() {
  if (inline) {
    data = JSON.parse(inline.textContent);
    $("export").hidden = false;
  } else {
    const answer = await fetch(`/data?reviewer=${encodeURIComponent(reviewer)}`);
    if (!answer.ok) { document.body.replaceChildren(make("p", await answer.text())); return; }
    data = await answer.json();
  }
  const known = new Set((data.decisions || []).map((d) => d.id));
  keptHere().filter((d) => known.has(d.id)).forEach(forget);
  queue = keptHere();
  decisions = [...(data.decisions || []), ...queue];
  const wanted = decodeURIComponent(location.hash.slice(1));
  const named = data.queries.findIndex((query) => query.name === wanted);
  const open = data.queries.findIndex((query) => !isDone(query));
  go(named >= 0 ? named : Math.max(open, 0));
  send();
}

begin();
