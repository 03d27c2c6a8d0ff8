"use strict";
// The data of the page: blocks of base64 text in <script> elements, read when they are needed.
// Pixels (x, y): integer = pixel centre.

const META = JSON.parse(document.getElementById("data-meta").textContent);
const [WIDTH, HEIGHT] = META.size;
const FRAMES = META.frames;

function blockText(name) {
  return document.getElementById(`data-${name}`).textContent;
}

async function inflate(base64) {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Positions in all frames of the N points of a grid over one frame, and whether they are visible there. */
class DenseTracks {
  /** Undoes pack_tracks of visualization/page_file.py. */
  constructor(index, bytes) {
    this.index = index;
    this.grid = META.queries[index];
    this.count = this.grid.rows * this.grid.columns;
    const planes = 2 * this.count;
    const flags = Math.ceil(this.count / 8);
    this.positions = new Int16Array(FRAMES * planes); // [frame][x or y][point], in 1/META.steps_per_pixel pixels
    this.flags = []; // for each frame one bit a point: occluded or outside
    for (let t = 0, start = 0; t < FRAMES; t++, start += 2 * planes + flags) {
      this.decodeFrame(t * planes, bytes.subarray(start, start + 2 * planes), planes, t > 0);
      this.flags.push(bytes.subarray(start + 2 * planes, start + 2 * planes + flags));
    }
  }

  /** The change since the frame before is that of the neighbour to the left, plus the number that is stored. */
  decodeFrame(first, bytes, planes, hasPrevious) {
    const positions = this.positions;
    for (let k = 0; k < planes; ) {
      for (let c = 0, change = 0; c < this.grid.columns; c++, k++) {
        const folded = bytes[k] | (bytes[planes + k] << 8);
        change += (folded >>> 1) ^ -(folded & 1);
        positions[first + k] = (hasPrevious ? positions[first + k - planes] : 0) + change; // wraps as int16 does
      }
    }
  }

  static async load(index) {
    return new DenseTracks(index, await inflate(blockText(`tracks-${META.queries[index].frame}`)));
  }

  unseen(i, t) {
    return (this.flags[t][i >> 3] & (0x80 >> (i & 7))) !== 0;
  }

  /** The visible point nearest to pixel (x, y) of frame t, or -1 where none is within three steps of the grid. */
  nearest(t, x, y) {
    const xs = this.positions.subarray(t * 2 * this.count, (t * 2 + 1) * this.count);
    const ys = this.positions.subarray((t * 2 + 1) * this.count, (t * 2 + 2) * this.count);
    const px = x * META.steps_per_pixel, py = y * META.steps_per_pixel;
    let best = (3 * this.grid.spacing * META.steps_per_pixel) ** 2, found = -1;
    for (let i = 0; i < this.count; i++) {
      const dx = xs[i] - px, dy = ys[i] - py, distance = dx * dx + dy * dy;
      if (distance < best && !this.unseen(i, t)) [best, found] = [distance, i];
    }
    return found;
  }

  /** The track of one point, independent of this object. */
  track(i) {
    const xs = new Float64Array(FRAMES), ys = new Float64Array(FRAMES), states = [];
    for (let t = 0; t < FRAMES; t++) {
      xs[t] = this.positions[t * 2 * this.count + i] / META.steps_per_pixel;
      ys[t] = this.positions[(t * 2 + 1) * this.count + i] / META.steps_per_pixel;
      const inside = xs[t] >= 0 && ys[t] >= 0 && xs[t] <= WIDTH - 1 && ys[t] <= HEIGHT - 1;
      states.push(!this.unseen(i, t) ? "visible" : inside ? "occluded" : "outside");
    }
    return { point: i, query: this.grid.frame, xs, ys, states };
  }
}

/** One line for every frame of every track. */
function tracksCsv(tracks) {
  const lines = ["track,query_frame,query_x,query_y,frame,x,y,visible"];
  tracks.forEach((track, number) => {
    const start = [number, track.query, track.xs[track.query], track.ys[track.query]];
    track.states.forEach((state, t) =>
      lines.push([...start, t, track.xs[t], track.ys[t], state === "visible" ? 1 : 0].join(",")));
  });
  return lines.join("\n") + "\n";
}
