// The scan path, the error curves and the past of a rate.

import { EDGE, INK, QUIET, Surface, line, nothing, stage, writing } from "./canvas.js";
import { digits, length, roundStep, whole } from "./words.js";

const FLAGS = [
  { key: "measured", words: "measured", colour: "#5ad1b4", shape: "dot" },
  { key: "interpolated", words: "interpolated", colour: "#6ea8ff", shape: "diamond" },
  { key: "extrapolated", words: "extrapolated", colour: "#f2b84b", shape: "square" },
  { key: "turnaround", words: "turn-around", colour: "#b39ddb", shape: "ring" },
  { key: "missing", words: "missing", colour: "#ff6b6b", shape: "cross" },
];

export class PathView {
  constructor(panel) {
    this.header = null;
    this.surface = new Surface(stage(panel).canvas, (...all) => this.draw(...all));
  }

  show(header, payload) {
    this.header = header;
    this.xy = new Float32Array(payload.slice(0, header.points * 8).buffer);
    this.quality = payload.slice(header.points * 8);
    this.surface.redraw();
  }

  clear() {
    this.header = null;
    this.surface.redraw();
  }

  draw(context, width, height, text) {
    if (!this.header) return nothing(context, width, height);
    const present = FLAGS.filter((flag) => this.header.counts[flag.key] > 0);
    const legend = this.legend(context, width, height, text, present);
    const box = this.extent();
    const room = { w: width - 24, h: height - legend - text * 1.9 - 10 };
    const scale = Math.min(room.w / box.w, room.h / box.h);
    const x0 = width / 2 - box.x * scale;
    const y0 = 6 + room.h / 2 - box.y * scale;
    const size = Math.max(1.2, Math.min(4, 0.3 * Math.sqrt((room.w * room.h) / Math.max(1, this.header.points))));
    this.line(context, x0, y0, scale);
    for (let i = 0; i < this.header.points; i++) {
      const x = x0 + this.xy[2 * i] * scale;
      const y = y0 + this.xy[2 * i + 1] * scale;
      mark(context, FLAGS[this.quality[i]] ?? FLAGS[4], x, y, size);
    }
    const step = roundStep((room.w / scale) * 0.3);
    const bar = height - legend - text * 0.9;
    context.fillStyle = INK;
    context.fillRect(4, bar - 2, step * scale, 3);
    writing(context, length(step), 10 + step * scale, bar, "left", INK);
    const notes = [this.header.every > 1 ? `every ${this.header.every}. point drawn` : "", this.header.note];
    writing(context, notes.filter(Boolean).join(", "), width - 4, bar, "right");
  }

  extent() {
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < this.xy.length; i += 2) {
      left = Math.min(left, this.xy[i]);
      right = Math.max(right, this.xy[i]);
      top = Math.min(top, this.xy[i + 1]);
      bottom = Math.max(bottom, this.xy[i + 1]);
    }
    if (!(right >= left)) return { x: 0, y: 0, w: 1e-6, h: 1e-6 };
    const least = Math.max(right - left, bottom - top, 1e-9) * 1e-3;
    return { x: (left + right) / 2, y: (top + bottom) / 2, w: Math.max(right - left, least), h: Math.max(bottom - top, least) };
  }

  line(context, x0, y0, scale) {
    context.strokeStyle = EDGE;
    context.lineWidth = 1;
    context.beginPath();
    for (let i = 0; i < this.header.points; i++) {
      context.lineTo(x0 + this.xy[2 * i] * scale, y0 + this.xy[2 * i + 1] * scale);
    }
    context.stroke();
  }

  legend(context, width, height, text, present) {
    const gap = text * 0.9;
    const rows = [[]];
    let x = 4;
    for (const flag of present) {
      const words = `${flag.words} ${whole(this.header.counts[flag.key])}`;
      const wide = context.measureText(words).width + text * 1.1 + gap;
      if (x + wide > width && rows.at(-1).length) {
        rows.push([]);
        x = 4;
      }
      rows.at(-1).push({ flag, words, x });
      x += wide;
    }
    rows.forEach((row, k) => {
      const y = height - (rows.length - k - 0.5) * text * 1.4;
      for (const { flag, words, x: left } of row) {
        mark(context, flag, left + text * 0.4, y, text * 0.32);
        writing(context, words, left + text, y, "left", INK);
      }
    });
    return rows.length * text * 1.4;
  }
}

function mark(context, flag, x, y, size) {
  context.fillStyle = context.strokeStyle = flag.colour;
  context.lineWidth = 1.4;
  context.beginPath();
  if (flag.shape === "square") {
    context.fillRect(x - size, y - size, 2 * size, 2 * size);
  } else if (flag.shape === "diamond") {
    const reach = size * 1.3;
    context.moveTo(x, y - reach);
    context.lineTo(x + reach, y);
    context.lineTo(x, y + reach);
    context.lineTo(x - reach, y);
    context.fill();
  } else if (flag.shape === "cross") {
    const arm = size * 1.3;
    context.moveTo(x - arm, y - arm);
    context.lineTo(x + arm, y + arm);
    context.moveTo(x - arm, y + arm);
    context.lineTo(x + arm, y - arm);
    context.stroke();
  } else {
    context.arc(x, y, size, 0, 2 * Math.PI);
    if (flag.shape === "ring") context.stroke();
    else context.fill();
  }
}

export class ErrorView {
  constructor(panel) {
    this.curves = { current: null, previous: [] };
    this.surface = new Surface(stage(panel).canvas, (...all) => this.draw(...all));
  }

  show(curves) {
    this.curves = curves;
    this.surface.redraw();
  }

  draw(context, width, height, text) {
    const all = [...this.curves.previous, this.curves.current].filter((curve) => curve && curve.points.some(([, e]) => e > 0));
    if (!all.length) return nothing(context, width, height, "no sweep finished yet");
    const points = all.flatMap((curve) => curve.points.filter(([, e]) => e > 0));
    const lowest = Math.min(...points.map(([, e]) => e));
    const highest = Math.max(...points.map(([, e]) => e));
    const lo = Math.log10(lowest) - 0.06;
    const hi = Math.max(Math.log10(highest) + 0.06, lo + 0.3);
    const last = Math.max(...points.map(([s]) => s), 2);
    const ticks = logTicks(lo, hi, height / (text * 2.6));
    const left = 8 + Math.max(...ticks.map((t) => context.measureText(digits(t)).width));
    const area = { x: left, y: text * 0.6, w: width - left - text * 1.2, h: height - text * 3.8 };
    const at = (s, e) => [area.x + ((s - 1) / (last - 1)) * area.w, area.y + (1 - (Math.log10(e) - lo) / (hi - lo)) * area.h];
    for (const tick of ticks) {
      const y = at(1, tick)[1];
      context.fillStyle = EDGE;
      context.fillRect(area.x, y, area.w, 1);
      writing(context, digits(tick), area.x - 5, y, "right");
    }
    const step = Math.max(1, roundStep(last / 3));
    for (let s = step; s <= last; s += step) writing(context, String(s), at(s, 1)[0], area.y + area.h + text, "center");
    writing(context, "sweeps", area.x + area.w, height - text * 0.3, "right", QUIET, "alphabetic");
    all.forEach((curve, k) => {
      const current = curve === this.curves.current;
      line(context, curve.points.filter(([, e]) => e > 0).map(([s, e]) => at(s, e)), current ? "#5ad1b4" : "#4a5a70", current ? 2.4 : 1.2);
    });
    const points_now = this.curves.current?.points ?? [];
    if (points_now.length && points_now.at(-1)[1] > 0) {
      const [x, y] = at(...points_now.at(-1));
      context.fillStyle = "#5ad1b4";
      context.beginPath();
      context.arc(x, y, 4, 0, 2 * Math.PI);
      context.fill();
    }
    if (this.curves.previous.length) writing(context, "grey: earlier ones", area.x, height - text * 0.3, "left", QUIET, "alphabetic");
  }
}

function logTicks(lo, hi, most) {
  for (const steps of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(lo); power <= Math.ceil(hi); power++) {
      for (const step of steps) {
        const value = Number((step * 10 ** power).toPrecision(3));
        if (Math.log10(value) >= lo && Math.log10(value) <= hi) ticks.push(value);
      }
    }
    if (ticks.length <= Math.max(2, most)) return ticks.length ? ticks : [10 ** ((lo + hi) / 2)];
  }
  return [10 ** lo, 10 ** hi];
}

export function sparkline(canvas, points) {
  const ratio = window.devicePixelRatio || 1;
  const box = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  if (points.length < 2) return;
  const context = canvas.getContext("2d");
  const peak = Math.max(...points.map(([, value]) => value), 1e-12);
  const [first, last] = [points[0][0], points.at(-1)[0]];
  context.strokeStyle = "#6ea8ff";
  context.lineWidth = 1.4 * ratio;
  context.beginPath();
  for (const [time, value] of points) {
    const x = ((time - first) / Math.max(last - first, 1e-9)) * canvas.width;
    context.lineTo(x, canvas.height - 2 - (Math.max(value, 0) / peak) * (canvas.height - 4));
  }
  context.stroke();
}
