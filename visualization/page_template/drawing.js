// Tracks and overlays on canvases. `scale`: canvas pixels for one pixel of the video.

const PALETTE = ["#ff5d5d", "#ffb347", "#ffe74c", "#6be36b", "#4cc9f0", "#7d93ff", "#d18cff", "#ff7ac6", "#c5e478"];

function onCanvas(track, t, scale) {
  return [(track.xs[t] + 0.5) * scale, (track.ys[t] + 0.5) * scale]; // integer = pixel centre
}

/** The path from frame `first` to frame `last`: a line, dashed and pale where either end is not visible. */
function drawPath(context, track, first, last, scale, width, alpha) {
  for (const [color, thickness] of [["#000", width + 2], [track.color, width]]) {
    context.strokeStyle = color;
    context.lineWidth = thickness;
    for (let t = first; t < last; t++) {
      const visible = track.states[t] === "visible" && track.states[t + 1] === "visible";
      context.globalAlpha = (color === "#000" ? 0.5 : 1) * alpha * (visible ? 1 : 0.55);
      context.setLineDash(visible ? [] : [width * 1.5, width * 2.5]);
      context.beginPath();
      context.moveTo(...onCanvas(track, t, scale));
      context.lineTo(...onCanvas(track, t + 1, scale));
      context.stroke();
    }
  }
  context.globalAlpha = 1;
  context.setLineDash([]);
}

/** A dark-edged dot where the point is visible, a cross where it is occluded, nothing outside the picture. */
function drawMark(context, track, t, scale, radius) {
  if (track.states[t] === "outside") return;
  const [x, y] = onCanvas(track, t, scale);
  context.beginPath();
  if (track.states[t] === "visible") {
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = track.color;
    context.fill();
    context.lineWidth = radius / 3;
    context.strokeStyle = "#000";
    context.stroke();
    return;
  }
  for (const side of [1, -1]) {
    context.moveTo(x - radius, y - side * radius);
    context.lineTo(x + radius, y + side * radius);
  }
  for (const [color, width] of [["#000", radius / 1.2], [track.color, radius / 2.4]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.stroke();
  }
}

/** The frames in which a track is visible (full), occluded (pale) or outside (empty), with a line at frame t. */
function drawStrip(canvas, track, t) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  const context = canvas.getContext("2d");
  const step = canvas.width / FRAMES;
  context.fillStyle = "#0009";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (track === null) return;
  track.states.forEach((state, frame) => {
    if (state === "outside") return;
    context.fillStyle = track.color;
    context.globalAlpha = state === "visible" ? 1 : 0.3;
    const left = Math.round(frame * step); // whole pixels: no seams
    context.fillRect(left, 0, Math.round((frame + 1) * step) - left, canvas.height);
  });
  context.globalAlpha = 1;
  const cursor = Math.round((t + 0.5) * step);
  context.fillStyle = "#000";
  context.fillRect(cursor - 2 * ratio, 0, 4 * ratio, canvas.height);
  context.fillStyle = "#fff";
  context.fillRect(cursor - ratio, 0, 2 * ratio, canvas.height);
}

/** Colour of a motion: its direction on the wheel, whiter the shorter it is than `full`; as in the flow videos. */
function motionColor(dx, dy, full) {
  const turn = Math.atan2(dy, dx) / (2 * Math.PI) + 1;
  const hue = META.wheel[Math.round(turn * META.wheel.length) % META.wheel.length];
  const strength = Math.min(1, Math.hypot(dx, dy) / full);
  return hue.map((channel) => Math.round(255 - strength * (255 - channel)));
}

/** The visible points of frame t, each a square in the colour of its motion since the query frame. */
function flowPicture(tracks, t) {
  const { spacing, rows, columns, left, top, flow_scale: full } = tracks.grid;
  const picture = new ImageData(WIDTH, HEIGHT);
  const pixels = new Uint32Array(picture.data.buffer);
  const before = Math.floor(spacing / 2), after = Math.ceil(spacing / 2); // one more than the step: few gaps
  for (let i = 0; i < rows * columns; i++) {
    if (tracks.unseen(i, t)) continue;
    const x = tracks.positions[t * 2 * tracks.count + i] / META.steps_per_pixel;
    const y = tracks.positions[(t * 2 + 1) * tracks.count + i] / META.steps_per_pixel;
    const [red, green, blue] = motionColor(
      x - left - (i % columns) * spacing, y - top - Math.floor(i / columns) * spacing, full);
    const color = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
    const x1 = Math.max(0, Math.round(x) - before), x2 = Math.min(WIDTH - 1, Math.round(x) + after);
    const y1 = Math.max(0, Math.round(y) - before), y2 = Math.min(HEIGHT - 1, Math.round(y) + after);
    for (let row = y1; row <= y2; row++) pixels.fill(color, row * WIDTH + x1, row * WIDTH + x2 + 1);
  }
  const canvas = new OffscreenCanvas(WIDTH, HEIGHT);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

function drawWheel(canvas) {
  const context = canvas.getContext("2d"), middle = canvas.width / 2;
  const picture = context.createImageData(canvas.width, canvas.height);
  for (let y = 0, k = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, k += 4) {
      const dx = x + 0.5 - middle, dy = y + 0.5 - middle;
      if (Math.hypot(dx, dy) <= middle) picture.data.set([...motionColor(dx, dy, middle), 255], k);
    }
  }
  context.putImageData(picture, 0, 0);
}

function drawBar(canvas, colors) {
  const context = canvas.getContext("2d");
  const step = canvas.width / colors.length;
  colors.forEach((color, k) => {
    context.fillStyle = color;
    context.fillRect(Math.floor(k * step), 0, Math.ceil(step), canvas.height);
  });
}
