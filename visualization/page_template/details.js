// The parts below the video: facts, settings, keys and training curves. All text goes in by textContent.

const KEYS = [
  ["space", "play, pause"],
  ["← →, Home, End", "one frame back or on; first, last frame"],
  ["Shift + arrows, Enter", "move a cross-hair over the picture; keep the track below it"],
  ["Backspace", "remove the track that was kept last"],
  ["[ ]", "follow the pixels of the previous, next query frame"],
  ["Q", "go to the query frame"],
  ["D, F", "depth, flow overlay on and off"],
  ["S", "save the kept tracks as CSV"],
];

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}

function fillList(id, pairs) {
  const list = document.getElementById(id);
  for (const [term, text] of pairs) {
    element("dt", term, list);
    element("dd", text, list);
  }
}

function short(number) {
  const small = number !== 0 && Math.abs(number) < 1e-3;
  return small ? number.toExponential(1) : Number(number.toPrecision(3)).toString();
}

/** One small picture: the values [step, value] of a scalar over the training, logarithmic where all are above 0. */
function drawCurve(name, points, parent) {
  const values = points.map(([, value]) => value);
  const logarithmic = Math.min(...values) > 0 && Math.max(...values) > 20 * Math.min(...values);
  const height = logarithmic ? Math.log10 : (value) => value;
  const low = height(Math.min(...values)), high = height(Math.max(...values));
  const first = points[0][0], last = points[points.length - 1][0];
  const position = ([step, value]) => {
    const x = last > first ? (100 * (step - first)) / (last - first) : 50;
    const y = high > low ? 5 + (90 * (high - height(value))) / (high - low) : 50;
    return `${x.toFixed(2)},${y.toFixed(2)}`;
  };
  const figure = element("figure", "", parent);
  const caption = element("figcaption", "", figure);
  element("span", name, caption);
  element("b", short(values[values.length - 1]), caption);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${name}, from ${short(values[0])} to ${short(values[values.length - 1])}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", (points.length > 1 ? points : [points[0], points[0]]).map(position).join(" "));
  svg.append(line);
  figure.append(svg);
  const foot = element("small", "", figure);
  element("span", `step ${first} to ${last}`, foot);
  const kind = logarithmic ? ", logarithmic" : "";
  element("span", `${short(Math.min(...values))} to ${short(Math.max(...values))}${kind}`, foot);
}

function fillDetails() {
  document.title = META.name;
  document.getElementById("title").textContent = META.name;
  document.getElementById("subtitle").textContent = META.subtitle;
  fillList("keys", KEYS);
  fillList("facts", META.facts);
  fillList("settings", META.settings);
  const curves = Object.entries(META.curves);
  document.getElementById("curves-section").hidden = curves.length === 0;
  for (const [name, points] of curves) drawCurve(name, points, document.getElementById("curves"));
}
