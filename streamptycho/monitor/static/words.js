// Numbers for people. What is not known is a dash.

export const DASH = "—";

export function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}

export function digits(value, significant = 3) {
  if (!known(value)) return DASH;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(significant - 1).replace("e+", "e");
  return String(Number(value.toPrecision(size >= 1000 ? Math.ceil(Math.log10(size + 1)) : significant)));
}

export function whole(value) {
  return known(value) ? Math.round(value).toLocaleString("en-GB") : DASH;
}

export function length(metres, significant = 3) {
  if (!known(metres)) return DASH;
  const units = [[1e-3, "mm", 1e3], [1e-6, "µm", 1e6], [1e-9, "nm", 1e9]];
  for (const [from, unit, factor] of units) {
    if (Math.abs(metres) >= from * 0.9995) return `${digits(metres * factor, significant)} ${unit}`;
  }
  return `${digits(metres * 1e12, significant)} pm`;
}

export function dose(gray) {
  if (!known(gray)) return DASH;
  const units = [[1e9, "GGy"], [1e6, "MGy"], [1e3, "kGy"], [1, "Gy"]];
  const [size, unit] = units.find(([from]) => gray >= from * 0.9995) ?? [1e-3, "mGy"];
  return `${digits(gray / size)} ${unit}`;
}

export function degrees(value) {
  return known(value) ? `${value.toFixed(1)}°` : DASH;
}

export function seconds(value) {
  if (!known(value)) return DASH;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${value.toFixed(0)} s`;
  return value < 7200 ? `${(value / 60).toFixed(0)} min` : `${(value / 3600).toFixed(1)} h`;
}

// "frames_per_s" becomes ["frames", "/s"], "rate_hz" becomes ["rate", "Hz"].
export function rateName(key) {
  if (key === "mb_per_s") return ["", "MB/s"];
  const known_units = { per_s: "/s", hz: "Hz", mb_s: "MB/s", mib_s: "MiB/s", gb_s: "GB/s", s: "s", ms: "ms" };
  for (const [ending, unit] of Object.entries(known_units)) {
    if (key.endsWith(`_${ending}`)) return [key.slice(0, -ending.length - 1).replaceAll("_", " "), unit];
  }
  return [key.replaceAll("_", " "), ""];
}

// The largest of 1, 2, 5 x 10^n that is at most `limit`.
export function roundStep(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  return (limit >= 5 * power ? 5 : limit >= 2 * power ? 2 : 1) * power;
}
