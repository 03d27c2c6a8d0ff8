// Controls: pointer, touch, keyboard, buttons.

/** Fit the picture to the width of the page and the height of the window; sharp on dense screens. */
function fitPicture() {
  const stage = byId("stage");
  const width = Math.max(1, Math.min(stage.clientWidth, Math.max(160, 0.72 * window.innerHeight) * (WIDTH / HEIGHT))); // 1: not laid out yet
  picture.style.width = `${Math.round(width)}px`;
  picture.style.height = `${Math.round((width * HEIGHT) / WIDTH)}px`;
  picture.width = Math.round(Math.round(width) * (window.devicePixelRatio || 1));
  picture.height = Math.round((picture.width * HEIGHT) / WIDTH);
  show(view.wanted);
}

/** The pixel of the video under a pointer event. */
function pixelAt(event) {
  const scale = WIDTH / picture.clientWidth;
  return [event.offsetX * scale - 0.5, event.offsetY * scale - 0.5];
}

function step(frames) {
  play(false);
  show(Math.min(FRAMES - 1, Math.max(0, view.wanted + frames)));
}

function play(on) {
  view.playing = on ? {} : null;
  byId("play").textContent = on ? "❚❚" : "▶";
  if (on) playUntilChanged(view.playing);
}

/** Show each frame when it is due and decoded: a slow computer plays slower, but skips none. */
async function playUntilChanged(playing) {
  let shown = performance.now();
  while (view.playing === playing) {
    const now = await new Promise(requestAnimationFrame);
    const period = 1000 / (META.fps * Number(byId("speed").value));
    if (now - shown < period - 4) continue; // 4 ms: half a tick of most screens
    await show((view.wanted + 1) % FRAMES);
    shown = now;
  }
}

/** A row of buttons of which one is chosen. */
function choices(parent, names, choose) {
  names.forEach((name, k) => {
    const button = element("button", name, byId(parent));
    button.addEventListener("click", () => choose(k));
  });
}

function markChosen(parent, chosen) {
  [...byId(parent).children].forEach((button, k) => button.setAttribute("aria-pressed", String(k === chosen)));
}

/** Follow the pixels of another query frame; its block is unpacked now, and the previous one dropped. */
async function chooseQuery(index) {
  markChosen("queries", index);
  view.tracks = view.hovered = null;
  view.pointed = false;
  view.query = index;
  drawAll();
  try {
    const tracks = await DenseTracks.load(index);
    if (view.query !== index) return;
    view.tracks = tracks;
  } catch (error) {
    notice(`The tracks cannot be read (${error.message}). This page needs Firefox 113, Chrome 80, Safari 16.4 or newer.`);
  }
  await chooseOverlay(view.overlay);
}

const OVERLAYS = ["none", "depth", "flow"];

async function chooseOverlay(name) {
  view.overlay = name;
  markChosen("overlays", OVERLAYS.indexOf(name));
  byId("overlay-legend").hidden = name === "none";
  byId("wheel").hidden = name !== "flow";
  byId("bar").hidden = name !== "depth";
  const grid = META.queries[view.query];
  byId("overlay-text").textContent = name === "depth"
    ? `near (${META.depth.low}) to far (${META.depth.high}), in the model's own units`
    : `motion since frame ${grid.frame} of what is visible; full colour: ${grid.flow_scale} pixels or more`;
  await show(view.wanted);
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = false;
}

/** Move the keyboard's cross-hair by steps of the grid. */
function moveCrossHair(dx, dy) {
  const spacing = META.queries[view.query].spacing;
  const [x, y] = view.pointer ?? [WIDTH / 2, HEIGHT / 2];
  view.pointer = [Math.min(WIDTH - 1, Math.max(0, x + dx * spacing)), Math.min(HEIGHT - 1, Math.max(0, y + dy * spacing))];
  hoverAt(...view.pointer);
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const ACTIONS = {
  " ": () => play(!view.playing),
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  Home: () => step(-FRAMES),
  End: () => step(FRAMES),
  Enter: () => keepHovered(),
  Backspace: () => removeKept(view.kept[view.kept.length - 1]),
  "[": () => chooseQuery((view.query + META.queries.length - 1) % META.queries.length),
  "]": () => chooseQuery((view.query + 1) % META.queries.length),
  q: () => toQueryFrame(),
  d: () => chooseOverlay(view.overlay === "depth" ? "none" : "depth"),
  f: () => chooseOverlay(view.overlay === "flow" ? "none" : "flow"),
  s: () => saveCsv(),
};

function toQueryFrame() {
  play(false);
  show(META.queries[view.query].frame);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // A focused slider, list or button handles these keys itself.
  const control = event.target.closest("input, select, summary, button");
  if (control && [" ", "Enter", "Home", "End", ...Object.keys(ARROWS)].includes(event.key)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = event.shiftKey && ARROWS[key] ? () => moveCrossHair(...ARROWS[key]) : ACTIONS[key];
  if (!action) return;
  event.preventDefault();
  action();
}

function listen() {
  picture.addEventListener("pointermove", (event) => {
    view.pointer = null;
    hoverAt(...pixelAt(event));
  });
  picture.addEventListener("pointerleave", () => {
    view.hovered = null;
    view.pointed = false;
    drawAll();
  });
  picture.addEventListener("click", (event) => {
    hoverAt(...pixelAt(event));
    if (view.hovered) keepHovered();
  });
  document.addEventListener("keydown", onKey);
  window.addEventListener("resize", fitPicture);
  byId("play").addEventListener("click", () => play(!view.playing));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("time").addEventListener("input", (event) => show(Number(event.target.value)));
  byId("csv").addEventListener("click", saveCsv);
  byId("clear").addEventListener("click", () => [...view.kept].forEach(removeKept));
  byId("to-query").addEventListener("click", toQueryFrame);
  for (const id of ["trail", "whole"]) byId(id).addEventListener("input", onTrail);
}

function onTrail() {
  const length = byId("trail").value;
  byId("trail-length").textContent = length === "1" ? "1 frame" : `${length} frames`;
  drawAll();
}

function start() {
  fillDetails();
  byId("time").max = FRAMES - 1;
  byId("trail").max = FRAMES - 1;
  byId("trail").value = Math.min(10, FRAMES - 1);
  drawWheel(byId("wheel"));
  drawBar(byId("bar"), META.depth.colors);
  choices("queries", META.queries.map((grid) => String(grid.frame)), chooseQuery);
  choices("overlays", OVERLAYS, (k) => chooseOverlay(OVERLAYS[k]));
  view.query = META.first_query;
  view.wanted = META.queries[view.query].frame;
  play(false);
  listen();
  onTrail();
  fitPicture();
  chooseQuery(view.query);
}

start();
