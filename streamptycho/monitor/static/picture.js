// A picture of the pipeline with its colour bar, scale bar and the value under the pointer.

import { EDGE, INK, QUIET, Surface, nothing, stage, writing } from "./canvas.js";
import { digits, known, length, roundStep } from "./words.js";

const BAR = 12;

export class PictureView {
  constructor(panel, tables) {
    this.tables = tables;
    this.header = null;
    const { canvas, reading } = stage(panel);
    this.reading = reading;
    this.image = document.createElement("canvas");
    this.surface = new Surface(canvas, (...all) => this.draw(...all));
    this.pointer = null;
    canvas.addEventListener("pointermove", (event) => this.point([event.offsetX, event.offsetY]));
    canvas.addEventListener("pointerleave", () => this.point(null));
  }

  show(header, pixels) {
    this.header = header;
    this.pixels = pixels;
    const { width, height, channels } = header;
    if (this.image.width !== width || this.image.height !== height) {
      this.image.width = width;
      this.image.height = height;
    }
    const data = new ImageData(width, height);
    const out = new Uint32Array(data.data.buffer);
    if (channels === 1) {
      const words = this.tables.words(header.colours);
      for (let i = 0; i < out.length; i++) out[i] = words[pixels[i]];
    } else {
      for (let i = 0, j = 0; i < out.length; i++, j += 3) {
        out[i] = 0xff000000 | (pixels[j + 2] << 16) | (pixels[j + 1] << 8) | pixels[j];
      }
    }
    this.image.getContext("2d").putImageData(data, 0, 0);
    this.surface.redraw();
  }

  clear() {
    this.header = null;
    this.surface.redraw();
  }

  draw(context, width, height, text) {
    if (!this.header) return nothing(context, width, height);
    const head = this.header;
    const bottom = text * 1.7;
    const labels = this.ticks();
    const side = BAR + 16 + Math.max(...labels.map(([, words]) => context.measureText(words).width), text);
    const scale = Math.min((width - side) / head.width, (height - bottom) / head.height);
    const w = head.width * scale;
    const h = head.height * scale;
    const x = (width - side - w) / 2;
    const y = (height - bottom - h) / 2;
    this.place = { x, y, scale };
    context.imageSmoothingEnabled = scale < 1;
    context.drawImage(this.image, x, y, w, h);
    for (const tile of head.tiles) this.tile(context, tile, x, y, scale, text);
    const note = head.pooling > 1 ? `${head.note}${head.note ? ", " : ""}${head.pooling}×${head.pooling} binned` : head.note;
    const start = this.scaleBar(context, x, y + h + bottom / 2, w, scale, text);
    writing(context, head.unit, width, height - bottom / 2 + 1, "right");
    const end = width - context.measureText(head.unit).width - 8;
    writing(context, shortened(context, note, end - start), start, y + h + bottom / 2 + 1);
    this.read();
    this.colourBar(context, width - side + 8, Math.max(y, text / 2), Math.min(h, height - bottom - text / 2) - text / 3, labels);
  }

  tile(context, tile, x, y, scale, text) {
    context.save();
    context.shadowColor = "#000";
    context.shadowBlur = 4;
    writing(context, tile.label, x + tile.x * scale + 5, y + tile.y * scale + text * 0.9, "left", INK);
    context.restore();
  }

  scaleBar(context, x, y, width, scale, text) {
    if (!known(this.header.pixel_m)) return 0;
    const step = roundStep((width / scale) * this.header.pixel_m * 0.3);
    const long = (step / this.header.pixel_m) * scale;
    context.fillStyle = INK;
    context.fillRect(x, y - 1, long, 3);
    const words = length(step);
    writing(context, words, x + long + 6, y + 1, "left", INK);
    return x + long + 6 + context.measureText(words).width + text;
  }

  ticks() {
    const { lo, hi, scale, unit } = this.header;
    if (!known(lo) || !known(hi)) return [[0, ""]];
    if (scale === "log10") {
      const ticks = [[0, "0"]];
      for (let power = 0; Math.log10(1 + 10 ** power) <= hi; power++) {
        const label = power < 4 ? String(10 ** power) : `1e${power}`;
        ticks.push([Math.log10(1 + 10 ** power) / hi, label]);
      }
      return ticks.length > 5 ? ticks.filter((_, i) => i === 0 || i % 2 === 1) : ticks;
    }
    if (unit === "rad" && Math.abs(hi - Math.PI) < 1e-6) return [[0, "−π"], [0.5, "0"], [1, "π"]];
    const span = hi - lo;
    const step = roundStep(span / 2);
    const decimals = Math.min(6, Math.max(0, -Math.floor(Math.log10(step))));
    const ticks = [];
    for (let k = Math.ceil(lo / step); k * step <= hi; k++) {
      const value = k * step;
      const words = step < 1e-4 || Math.abs(value) >= 1e5 ? value.toExponential(1) : value.toFixed(decimals);
      ticks.push([(value - lo) / span, value === 0 ? "0" : words.replaceAll("-", "−")]);
    }
    return ticks.length ? ticks : [[0.5, digits((lo + hi) / 2)]];
  }

  colourBar(context, x, y, height, labels) {
    const table = this.tables.rgb(this.header.colours);
    const gradient = context.createLinearGradient(0, y + height, 0, y);
    for (let i = 0; i <= 32; i++) {
      const [r, g, b] = table[1 + Math.round((i / 32) * 254)];
      gradient.addColorStop(i / 32, `rgb(${r},${g},${b})`);
    }
    context.fillStyle = gradient;
    context.fillRect(x, y, BAR, height);
    context.strokeStyle = EDGE;
    context.strokeRect(x + 0.5, y + 0.5, BAR - 1, height - 1);
    for (const [part, words] of labels) {
      const at = y + height * (1 - part);
      context.fillStyle = QUIET;
      context.fillRect(x + BAR, at - 0.5, 3, 1);
      writing(context, words, x + BAR + 5, at, "left", QUIET);
    }
  }

  point(pointer) {
    this.pointer = pointer;
    this.read();
  }

  read() {
    if (!this.header || !this.place || !this.pointer) return this.reading.replaceChildren();
    const { width, height, channels, lo, hi, scale, unit, pixel_m: pixel } = this.header;
    const column = Math.floor((this.pointer[0] - this.place.x) / this.place.scale);
    const row = Math.floor((this.pointer[1] - this.place.y) / this.place.scale);
    if (column < 0 || row < 0 || column >= width || row >= height) return this.reading.replaceChildren();
    const where = known(pixel) ? `${length(column * pixel)}, ${length(row * pixel)}` : `${column}, ${row}`;
    let value = "";
    if (channels === 1) {
      const level = this.pixels[row * width + column];
      const shown = lo + ((level - 1) / 254) * (hi - lo);
      value = level === 0 ? ": not measured" : `: ${digits(scale === "log10" ? 10 ** shown - 1 : shown)} ${unit}`;
    }
    this.reading.textContent = `${where}${value}`;
  }
}

function shortened(context, words, room) {
  if (context.measureText(words).width <= room) return words;
  let end = words.length;
  while (end > 0 && context.measureText(`${words.slice(0, end)}…`).width > room) end -= 1;
  return end > 3 ? `${words.slice(0, end)}…` : "";
}

export class ColourTables {
  constructor(tables) {
    this.tables = tables;
    this.packed = new Map();
  }

  rgb(name) {
    return this.tables[name] ?? this.tables.gray;
  }

  words(name) {
    if (!this.packed.has(name)) {
      const packed = this.rgb(name).map(([r, g, b]) => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0);
      this.packed.set(name, Uint32Array.from(packed));
    }
    return this.packed.get(name);
  }
}
