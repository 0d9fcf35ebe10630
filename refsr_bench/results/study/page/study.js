// Shows one pair after another and records the choice. Served: every answer is sent at once. Static: answers stay in
// this browser until the rater saves them as a file.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const study = JSON.parse($("study").textContent);
  const served = document.body.dataset.mode === "served";
  const pairs = new Map(study.pairs.map((pair) => [pair.id, pair]));
  const SLOT = `refsr-study-${study.id}`;
  const TOO_QUICK_MS = 250; // a double click must not answer the next pair

  let session = null; // {rater, sheet, answers} (static) or {rater, sheet, done} (served)
  let current = null; // what is shown now
  let shownAt = 0;

  function remember(value) {
    try { localStorage.setItem(SLOT, JSON.stringify(value)); } catch { /* private mode: kept in memory only */ }
  }

  function recall() {
    try { return JSON.parse(localStorage.getItem(SLOT)); } catch { return null; }
  }

  const randomHex = () => [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");

  async function post(path, body) {
    const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const said = await answer.json().catch(() => ({}));
    // An answer whose confirmation was lost is sent again, and is stored already; nothing else that is refused is.
    if (!answer.ok && said.error !== "answered already") throw new Error(said.error ?? `the server said ${answer.status}`);
    return said;
  }

  async function begin() {
    const known = recall();
    if (served) {
      const state = await post("begin", { rater: known ? known.rater : null });
      session = { rater: state.rater, sheet: state.sheet, done: new Set(state.done) };
      remember({ rater: state.rater });
    } else {
      const asked = Number(new URLSearchParams(location.search).get("sheet") ?? NaN);
      const drawn = crypto.getRandomValues(new Uint32Array(1))[0] % study.sheets.length;
      const sheet = Number.isInteger(asked) && asked >= 0 && asked < study.sheets.length ? asked : drawn;
      session = known && Array.isArray(known.answers) && study.sheets[known.sheet] ? known : { rater: randomHex(), sheet, answers: [] };
      session.done = new Set(session.answers.map((answer) => answer.pair));
    }
  }

  function preload(pair) {
    for (const token of pair.pictures) new Image().src = `img/${token}.png`;
  }

  async function next() {
    const sheet = study.sheets[session.sheet];
    const left = sheet.filter((shown) => !session.done.has(shown.pair));
    const done = sheet.length - left.length;
    $("progress").value = done / sheet.length;
    $("count").textContent = `${done} of ${sheet.length}`;
    if (!left.length) return finish();
    const pair = pairs.get(left[0].pair);
    current = { pair: pair.id, left: pair.pictures[left[0].left], right: pair.pictures[1 - left[0].left] };
    setReady(false);
    for (const side of ["left", "right"]) {
      const image = $(`picture-${side}`);
      image.width = pair.width;
      image.height = pair.height;
      image.src = `img/${current[side]}.png`;
    }
    try {
      await Promise.all(["left", "right"].map((side) => $(`picture-${side}`).decode()));
    } catch {
      return fail("A picture could not be loaded. Please reload the page; your choices so far are kept.");
    }
    if (left[1]) preload(pairs.get(left[1].pair));
    setReady(true);
    shownAt = performance.now();
  }

  function setReady(ready) {
    $("choose-left").disabled = !ready;
    $("choose-right").disabled = !ready;
  }

  async function choose(side) {
    const took = performance.now() - shownAt;
    if ($("choose-left").disabled || took < TOO_QUICK_MS) return;
    setReady(false);
    const answer = {
      study: study.id, rater: session.rater, sheet: session.sheet, ...current,
      choice: side, seconds: Math.min(86400, Math.round(took) / 1000),
    };
    try {
      if (served) await post("answers", answer);
    } catch (error) {
      setReady(true);
      return fail(`Your choice could not be stored (${error.message}). Please choose again.`);
    }
    $("trouble").hidden = true;
    session.done.add(answer.pair);
    if (!served) {
      session.answers.push(answer);
      remember({ rater: session.rater, sheet: session.sheet, answers: session.answers });
    }
    await next();
  }

  function fail(text) {
    $("trouble").textContent = text;
    $("trouble").hidden = false;
  }

  function show(name) {
    for (const part of ["intro", "trial", "end"]) $(part).hidden = part !== name;
  }

  function finish() {
    show("end");
    $("thanks").focus();
    $("end-served").hidden = !served;
    $("end-static").hidden = served;
    if (served) return;
    const text = JSON.stringify({ study: study.id, rater: session.rater, sheet: session.sheet, answers: session.answers });
    $("copy").value = text;
    $("download").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    $("download").download = `answers-${session.rater}.json`;
  }

  $("agree").checked = false;
  $("agree").addEventListener("change", () => { $("start").disabled = !$("agree").checked; });
  $("consent").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("start").disabled = true;
    try {
      await begin();
    } catch (error) {
      $("start").disabled = false;
      $("start").textContent = `Try again (${error.message})`;
      return;
    }
    show("trial");
    $("question").focus();
    await next();
  });
  for (const side of ["left", "right"]) $(`choose-${side}`).addEventListener("click", () => choose(side));
  document.addEventListener("keydown", (event) => {
    if ($("trial").hidden || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const side = { ArrowLeft: "left", ArrowRight: "right", a: "left", b: "right", 1: "left", 2: "right" }[event.key];
    if (side) { event.preventDefault(); choose(side); }
  });
  $("again").addEventListener("click", () => { try { localStorage.removeItem(SLOT); } catch { /* nothing kept */ } location.reload(); });
})();
