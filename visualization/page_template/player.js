// What is shown: one frame, the overlay, the tracks. `view` is the whole state of the page.

const byId = (id) => document.getElementById(id);
const picture = byId("picture");
const base = document.createElement("canvas"); // frame and overlay as shown, so that a moving pointer costs a copy

const view = {
  frame: 0,
  tracks: null, // DenseTracks of the query frame
  pointed: false, // whether the picture is pointed at
  hovered: null, // the track there
  pointer: null, // cross-hair of the keyboard [x, y], pixels
  kept: [],
  overlay: "none",
  playing: null, // an object of its own for every stretch of playing
  query: 0, // which of META.queries
  wanted: 0, // the frame requested last; it is shown once it is decoded
};

const images = new Map();

/** The image of frame t or of its depth, decoded. */
async function decoded(kind, t) {
  const name = `${kind}-${t}`;
  if (!images.has(name)) {
    const image = new Image();
    image.src = `data:image/webp;base64,${blockText(name)}`;
    images.set(name, image);
  }
  await images.get(name).decode();
  return images.get(name);
}

/** Show frame t as soon as it is decoded, unless another was requested meanwhile. */
async function show(t) {
  view.wanted = t;
  const pictures = await Promise.all([decoded("frame", t), view.overlay === "depth" ? decoded("depth", t) : null]);
  if (view.wanted !== t) return;
  view.frame = t;
  paintBase(...pictures);
  byId("time").value = t;
  byId("clock").textContent = `${t} / ${FRAMES - 1}`;
  drawAll();
  drawKeptList();
}

function paintBase(frame, depth) {
  base.width = picture.width;
  base.height = picture.height;
  const context = base.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(frame, 0, 0, base.width, base.height);
  if (view.overlay === "none" || (view.overlay === "flow" && view.tracks === null)) return;
  context.globalAlpha = 0.75;
  context.drawImage(depth ?? flowPicture(view.tracks, view.frame), 0, 0, base.width, base.height);
  context.globalAlpha = 1;
}

/** Frame, overlay, kept tracks and the one under the pointer. */
function drawAll() {
  const context = picture.getContext("2d");
  const scale = picture.width / WIDTH;
  const unit = picture.width / picture.clientWidth; // canvas pixels for one of the screen's
  const trail = Number(byId("trail").value);
  context.drawImage(base, 0, 0);
  context.lineCap = "round";
  for (const track of view.hovered ? [...view.kept, view.hovered] : view.kept) {
    if (byId("whole").checked) drawPath(context, track, 0, FRAMES - 1, scale, 1.2 * unit, 0.6);
    drawPath(context, track, Math.max(0, view.frame - trail), view.frame, scale, 3 * unit, 1);
    drawMark(context, track, view.frame, scale, (track === view.hovered ? 6 : 5) * unit);
  }
  if (view.pointer) drawCrossHair(context, view.pointer, scale, unit);
  drawStrip(byId("hovered-strip"), view.hovered, view.frame);
  byId("readout").textContent = readout();
}

function drawCrossHair(context, [x, y], scale, unit) {
  const across = (x + 0.5) * scale, down = (y + 0.5) * scale;
  for (const [color, width] of [["#000", 3 * unit], ["#fff", unit]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(across + 5 * unit * dx, down + 5 * unit * dy);
      context.lineTo(across + 14 * unit * dx, down + 14 * unit * dy);
    }
    context.stroke();
  }
}

function positionText(track, t) {
  const words = { visible: "visible", occluded: "occluded", outside: "outside the picture" };
  return `(${track.xs[t].toFixed(2)}, ${track.ys[t].toFixed(2)}), ${words[track.states[t]]}`;
}

function readout() {
  if (view.tracks === null) return "Reading the tracks …";
  if (!view.hovered && view.pointed) return `Nothing of frame ${META.queries[view.query].frame} is visible here.`;
  if (!view.hovered) return "Point at the video to follow what is under the pointer; click or tap to keep its track.";
  const { query, xs, ys, states } = view.hovered;
  const numVisible = states.filter((state) => state === "visible").length;
  return `Pixel (${xs[query]}, ${ys[query]}) of frame ${query} is in frame ${view.frame} at `
    + `${positionText(view.hovered, view.frame)}. It is visible in ${numVisible} of ${FRAMES} frames.`;
}

/** Show the track of the visible point nearest to pixel (x, y) of the frame shown. */
function hoverAt(x, y) {
  if (view.tracks === null) return;
  view.pointed = true;
  const point = view.tracks.nearest(view.frame, x, y);
  view.hovered = point < 0 ? null : { ...view.tracks.track(point), color: nextColor() };
  drawAll();
}

/** A colour that no kept track has, or the one used least. */
function nextColor() {
  const uses = (color) => view.kept.filter((track) => track.color === color).length;
  return PALETTE.reduce((best, color) => (uses(color) < uses(best) ? color : best));
}

function keepHovered() {
  const track = view.hovered;
  const same = (other) => other.query === track.query && other.point === track.point;
  if (track && !view.kept.some(same)) view.kept.push(track);
  view.hovered = null;
  view.pointed = false;
  drawAll();
  buildKeptList();
}

function removeKept(track) {
  view.kept = view.kept.filter((other) => other !== track);
  drawAll();
  buildKeptList();
}

/** The rows of the list of kept tracks; `drawKeptList` fills in what changes with the frame. */
function buildKeptList() {
  const list = byId("tracks");
  list.replaceChildren();
  for (const track of view.kept) {
    const row = element("li", "", list);
    const swatch = element("span", "", row);
    swatch.className = "swatch";
    swatch.style.background = track.color;
    element("span", "", row).className = "position";
    const remove = element("button", "×", row);
    remove.setAttribute("aria-label", "Remove this track");
    remove.addEventListener("click", () => removeKept(track));
    const strip = element("canvas", "", row);
    strip.title = "Click to go to that frame";
    strip.addEventListener("click", (event) =>
      show(Math.min(FRAMES - 1, Math.floor((FRAMES * event.offsetX) / strip.clientWidth))));
  }
  byId("empty").hidden = view.kept.length > 0;
  byId("count").textContent = view.kept.length ? `(${view.kept.length})` : "";
  byId("csv").disabled = byId("clear").disabled = view.kept.length === 0;
  drawKeptList();
}

function drawKeptList() {
  [...byId("tracks").children].forEach((row, k) => {
    const track = view.kept[k], start = `(${track.xs[track.query]}, ${track.ys[track.query]})`;
    row.querySelector(".position").textContent = `${start} of frame ${track.query}: now ${positionText(track, view.frame)}`;
    drawStrip(row.querySelector("canvas"), track, view.frame);
  });
}

function saveCsv() {
  if (view.kept.length === 0) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([tracksCsv(view.kept)], { type: "text/csv" }));
  link.download = `${META.name.replace(/[^\w.-]+/g, "_")}_tracks.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000); // the browser may still be reading it
}
