// Canvases that are as sharp as the screen, and redrawn when their size changes.

export const INK = "#e8edf4";
export const QUIET = "#9aa8ba";
export const EDGE = "#2b3646";
export const FONT = 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

export class Surface {
  constructor(canvas, draw) {
    this.canvas = canvas;
    this.draw = draw;
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  redraw() {
    const box = this.canvas.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) return;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(box.width * ratio);
    const height = Math.round(box.height * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, box.width, box.height);
    const text = Math.max(11, Math.min(15, window.innerWidth / 128));
    context.font = `${text}px ${FONT}`;
    this.draw(context, box.width, box.height, text);
  }
}

export function stage(panel) {
  const holder = document.createElement("div");
  holder.className = "stage";
  const canvas = document.createElement("canvas");
  canvas.id = `canvas-${panel.id.replace("panel-", "")}`;
  const reading = document.createElement("div");
  reading.className = "reading";
  holder.append(canvas, reading);
  panel.append(holder);
  return { canvas, reading };
}

export function writing(context, words, x, y, align = "left", colour = QUIET, baseline = "middle") {
  context.fillStyle = colour;
  context.textAlign = align;
  context.textBaseline = baseline;
  context.fillText(words, x, y);
}

export function line(context, points, colour, thick, dash = []) {
  context.strokeStyle = colour;
  context.lineWidth = thick;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  context.stroke();
  context.setLineDash([]);
}

export function nothing(context, width, height, words = "not yet") {
  const over = document.body.dataset.over === "true";
  writing(context, over ? "none in this run" : words, width / 2, height / 2, "center", QUIET);
}
