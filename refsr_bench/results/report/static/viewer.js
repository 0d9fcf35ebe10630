// Pictures of one sample: synchronised zoom and pan, an A/B slider, error maps.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const viewer = $("viewer");
  const width = Number(viewer.dataset.width);
  const height = Number(viewer.dataset.height);
  const panes = [...document.querySelectorAll(".pane")];
  const views = [...document.querySelectorAll(".view")].filter((view) => !view.closest(".role-matches"));
  const LARGEST = 32;

  // The one state all pictures share: magnification against "fit", and the view's top left corner in picture widths
  // and heights. A picture is shown at left = -x * scale * width of its view, and so on.
  const state = { scale: 1, x: 0, y: 0, errors: false, divide: 50 };

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const visibleView = () => views.find((view) => view.offsetWidth) || views[0];

  function draw() {
    state.scale = clamp(state.scale, 1, LARGEST);
    state.x = clamp(state.x, 0, 1 - 1 / state.scale);
    state.y = clamp(state.y, 0, 1 - 1 / state.scale);
    for (const view of views) {
      const w = view.clientWidth;
      const h = view.clientHeight;
      const perPixel = (state.scale * w) / width;
      for (const image of view.querySelectorAll("img")) {
        image.style.transform = `translate(${-state.x * state.scale * w}px, ${-state.y * state.scale * h}px) scale(${state.scale})`;
        image.classList.toggle("sharp", perPixel * devicePixelRatio >= 2);
      }
      view.classList.toggle("zoomed", state.scale > 1);
    }
    const shown = (state.scale * visibleView().clientWidth) / width;
    $("zoom-value").textContent = `${Math.round(shown * 100)} %`;
    $("layer-a").style.clipPath = `inset(0 ${100 - state.divide}% 0 0)`;
    $("divider").style.left = `${state.divide}%`;
  }

  // Zoom about a point given in fractions of the view.
  function zoom(factor, fx = 0.5, fy = 0.5) {
    const scale = clamp(state.scale * factor, 1, LARGEST);
    state.x += fx / state.scale - fx / scale;
    state.y += fy / state.scale - fy / scale;
    state.scale = scale;
    draw();
  }

  const zoomToPixels = (fx = 0.5, fy = 0.5) =>
    zoom(width / devicePixelRatio / visibleView().clientWidth / state.scale, fx, fy);

  function pan(dx, dy) {
    state.x += dx / state.scale;
    state.y += dy / state.scale;
    draw();
  }

  function fraction(view, event) {
    const box = view.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  function listen(view) {
    const pointers = new Map();
    const gap = () => {
      const [a, b] = [...pointers.values()];
      return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    };
    view.addEventListener("pointerdown", (event) => {
      view.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
    });
    view.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last) return;
      if (pointers.size === 2) {
        const before = gap();
        pointers.set(event.pointerId, event);
        zoom(gap() / Math.max(before, 1), ...fraction(view, event));
      } else {
        pointers.set(event.pointerId, event);
        pan((last.clientX - event.clientX) / view.clientWidth, (last.clientY - event.clientY) / view.clientHeight);
      }
    });
    for (const name of ["pointerup", "pointercancel"])
      view.addEventListener(name, (event) => pointers.delete(event.pointerId));
    view.addEventListener("dblclick", (event) => {
      if (state.scale > 1) zoom(1 / state.scale);
      else zoomToPixels(...fraction(view, event));
    });
    view.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), ...fraction(view, event));
    }, { passive: false });
    view.addEventListener("keydown", (event) => {
      const step = 0.1;
      const actions = {
        "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
        0: () => zoom(1 / state.scale), 1: () => zoomToPixels(),
        ArrowLeft: () => pan(-step, 0), ArrowRight: () => pan(step, 0),
        ArrowUp: () => pan(0, -step), ArrowDown: () => pan(0, step),
      };
      if (event.key === " " && view.id === "slider-view") actions[" "] = swap;
      const isPan = event.key.startsWith("Arrow");
      if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey || (isPan && state.scale === 1)) return;
      event.preventDefault();
      actions[event.key]();
    });
    view.querySelectorAll("img").forEach((image) => { image.draggable = false; });
  }

  const paneOf = (key) => panes.find((pane) => pane.dataset.key === key);

  function sourceOf(key) {
    const image = paneOf(key).querySelector("img");
    return state.errors && image.dataset.error ? image.dataset.error : image.dataset.plain;
  }

  function setSources() {
    for (const pane of panes) pane.querySelector("img").src = sourceOf(pane.dataset.key);
    for (const side of ["a", "b"]) {
      $(`image-${side}`).src = sourceOf($(`pick-${side}`).value);
      $(`layer-${side}`).classList.toggle("role-lr", $(`pick-${side}`).value === "lr");
    }
    $("legend").hidden = !state.errors;
  }

  function swap() {
    [$("pick-a").value, $("pick-b").value] = [$("pick-b").value, $("pick-a").value];
    setSources();
  }

  function setMode(slider) {
    $("slider").hidden = !slider;
    $("panes").hidden = slider;
    $("mode-slider").setAttribute("aria-pressed", String(slider));
    $("mode-grid").setAttribute("aria-pressed", String(!slider));
    draw();
  }

  function setErrors(on) {
    state.errors = on;
    $("show-errors").checked = on;
    setSources();
  }

  function start() {
    for (const view of views) view.classList.add("framed");
    for (const view of views) {
      view.style.aspectRatio = `${width} / ${height}`;
      listen(view);
    }
    for (const pane of panes) {
      const image = pane.querySelector("img");
      image.dataset.plain = image.getAttribute("src");
    }
    $("slider").style.setProperty("--fitting", `${(75 * width) / height}vh`);
    const keys = panes.map((pane) => pane.dataset.key);
    const restored = panes.filter((pane) => pane.dataset.role === "sr").map((pane) => pane.dataset.key);
    $("pick-a").value = restored[0] || keys[0];
    $("pick-b").value = restored[1] || "hr";
    setSources();

    $("mode-grid").addEventListener("click", () => setMode(false));
    $("mode-slider").addEventListener("click", () => setMode(true));
    $("zoom-in").addEventListener("click", () => zoom(1.25));
    $("zoom-out").addEventListener("click", () => zoom(0.8));
    $("zoom-fit").addEventListener("click", () => zoom(1 / state.scale));
    $("zoom-one").addEventListener("click", () => zoomToPixels());
    $("show-errors").addEventListener("change", (event) => setErrors(event.target.checked));
    $("divide").addEventListener("input", (event) => { state.divide = Number(event.target.value); draw(); });
    for (const side of ["a", "b"]) $(`pick-${side}`).addEventListener("change", setSources);
    for (const box of document.querySelectorAll(".shown")) {
      box.checked = true;
      box.addEventListener("change", () => { paneOf(box.value).hidden = !box.checked; draw(); });
    }
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, textarea, [type=search], [type=range]")) return;
      const actions = {
        s: () => setMode($("slider").hidden), e: () => setErrors(!state.errors),
        n: () => $("next")?.click(), p: () => $("previous")?.click(),
      };
      actions[event.key.toLowerCase()]?.();
    });
    addEventListener("resize", draw);
    $("tools").hidden = false;
    document.querySelector(".keys").hidden = false;
    draw();
  }

  start();
})();
