// How good results are: correlation of halves by ring or shell, histogram of the slices, figures of the tomogram.

import { EDGE, INK, QUIET, Surface, line, nothing, stage, writing } from "./canvas.js";
import { DASH, degrees, digits, dose, known, length, roundStep, whole } from "./words.js";

const CURVE = "#6ea8ff";
const THRESHOLD = "#f2b84b";
const UNITS = { electron_density_per_A3: "e/Å³", mass_density_g_per_cm3: "g/cm³", delta: "δ", beta: "β" };
const PER_UM = 1e-6;

export class CorrelationView {
  constructor(panel) {
    this.surface = new Surface(stage(panel).canvas, (...all) => this.draw(...all));
  }

  show(curve, resolution, whose = "") {
    this.curve = curve;
    this.whose = whose;
    this.resolution = resolution;
    this.surface.redraw();
  }

  draw(context, width, height, text) {
    const curve = this.curve;
    if (!curve || curve.frequency_per_m.length < 2) return nothing(context, width, height);
    const most = curve.frequency_per_m.at(-1) * PER_UM;
    const left = context.measureText("0.5").width + 8;
    const area = { x: left, y: text * 0.7, w: width - left - text * 0.8, h: height - text * 3.7 };
    const x = (perUm) => area.x + (perUm / most) * area.w;
    const y = (value) => area.y + ((1 - Math.min(1, Math.max(-0.1, value))) / 1.1) * area.h;
    for (const value of [0, 0.5, 1]) {
      context.fillStyle = EDGE;
      context.fillRect(area.x, y(value), area.w, 1);
      writing(context, String(value), area.x - 5, y(value), "right");
    }
    const step = roundStep(most / 2.5);
    for (let f = 0; f <= most * 1.0001; f += step) writing(context, digits(f), x(f), area.y + area.h + text * 0.9, "center");
    writing(context, "spatial frequency (1/µm)", area.x + area.w, height - text * 0.4, "right", QUIET, "alphabetic");
    const points = (values) => values.map((value, k) => [x(curve.frequency_per_m[k] * PER_UM), y(value)]);
    line(context, points(curve.one_seventh), QUIET, 1.2, [1, 3]);
    line(context, points(curve.half_bit), THRESHOLD, 1.6, [5, 4]);
    line(context, points(curve.correlation), CURVE, 2.2);
    const end = area.x + area.w;
    writing(context, "½-bit threshold", end, y(curve.half_bit.at(-1)) - text * 0.8, "right", THRESHOLD);
    writing(context, "1/7", end, y(1 / 7) + text * 0.75, "right");
    if (known(this.resolution) && this.resolution > 0) this.mark(context, x(PER_UM / (2 * this.resolution)), area, text);
  }

  mark(context, x, area, text) {
    line(context, [[x, area.y], [x, area.y + area.h]], INK, 1, [2, 3]);
    const room = Math.max(area.x + area.w - x, x - area.x) - 8;
    const short = [this.whose, length(this.resolution)].filter(Boolean).join(": ");
    const words = [`${short} half period`, short, length(this.resolution)];
    const fitting = words.find((each) => context.measureText(each).width < room) ?? "";
    const right = x + 5 + context.measureText(fitting).width < area.x + area.w;
    writing(context, fitting, right ? x + 5 : x - 5, area.y + text * 0.9, right ? "left" : "right", INK);
  }
}

export class HistogramView {
  constructor(panel) {
    this.surface = new Surface(stage(panel).canvas, (...all) => this.draw(...all));
  }

  show(histogram, volume) {
    this.histogram = histogram;
    this.unit = UNITS[volume?.quantity] ?? volume?.quantity ?? "";
    this.surface.redraw();
  }

  draw(context, width, height, text) {
    if (!this.histogram || height < 3 * text) return;
    const { lo, hi, counts } = this.histogram;
    const foot = text * 1.5;
    const top = text * 1.1;
    const peak = Math.sqrt(Math.max(...counts, 1));
    const wide = width / counts.length;
    context.fillStyle = CURVE;
    counts.forEach((count, k) => {
      const high = (Math.sqrt(count) / peak) * (height - foot - top);
      context.fillRect(k * wide, height - foot - high, Math.max(1, wide - 1), high);
    });
    context.fillStyle = EDGE;
    context.fillRect(0, height - foot, width, 1);
    writing(context, "voxels of the slices, square-root scale", width, text * 0.5, "right");
    const step = roundStep((hi - lo) / 2);
    for (let value = Math.ceil(lo / step) * step; value <= hi; value += step) {
      const at = ((value - lo) / (hi - lo)) * width;
      if (at < width - context.measureText(this.unit).width * 1.6) writing(context, digits(value), Math.max(at, text), height - foot / 2 + 1, "center");
    }
    writing(context, this.unit, width, height - foot / 2 + 1, "right");
  }
}

function limitedBy(figures, resolution) {
  if (!known(resolution)) return DASH;
  if (figures.resolution_angular_sampling_m >= resolution) {
    return figures.angular_range_complete > 0 ? "angular step" : "missing wedge";
  }
  return figures.resolution_of_projections_m >= resolution ? "projections" : "shell correlation, ½ bit";
}

function missingWedge(figures) {
  const gap = degrees(figures.largest_gap_deg);
  return figures.angular_range_complete > 0 ? `none, gaps up to ${gap}` : gap;
}

function facts(volume) {
  const { figures, quantity } = volume;
  const unit = UNITS[quantity] ?? quantity;
  const wanted = figures.wanted_resolution_m;
  const list = [["Resolution", known(volume.resolution_m) ? `${length(volume.resolution_m)} half period` : DASH, "The coarsest of what limits the volume"]];
  list.push(["Limited by", limitedBy(figures, volume.resolution_m)]);
  if (known(wanted)) {
    const reached = figures.wanted_resolution_reached > 0;
    list.push(["Wanted", `${length(wanted)}, ${reached ? "✓ reached" : "not reached yet"}`, "tomography.wanted_resolution_m"]);
  }
  list.push(["Missing wedge", missingWedge(figures), "Largest gap between neighbouring angles, modulo 180°"]);
  const photons = figures.photons_per_m2;
  list.push(["Photons on sample", known(photons) ? `${digits(photons * 1e-12)} /µm²` : DASH, "Of all projections together"]);
  list.push(["Dose", dose(figures.dose_gy), "Absorbed by the sample in all projections together"]);
  const matter = figures[`matter_${quantity}`];
  if (known(matter)) list.push(["Dense matter", `${digits(matter)} ${unit}`, "Mean over the densest part of the central slice"]);
  const noise = figures[`air_noise_${quantity}`];
  if (known(noise)) list.push(["Noise in air", `±${digits(noise, 2)} ${unit}`, "Standard deviation beside the sample"]);
  if (figures.left_out_projections > 0) list.push(["Projections left out", whole(figures.left_out_projections)]);
  return list;
}

export function showQuality(list, volume) {
  const shown = volume ? facts(volume) : [[document.body.dataset.over === "true" ? "No volume in this run" : "No volume yet", ""]];
  const key = JSON.stringify(shown);
  if (list.dataset.shown === key) return;
  list.dataset.shown = key;
  list.replaceChildren(...shown.flatMap(([name, value, meaning]) => {
    const term = document.createElement("dt");
    const detail = document.createElement("dd");
    term.textContent = name;
    term.title = detail.title = meaning ?? "";
    detail.textContent = value;
    return [term, detail];
  }));
}
