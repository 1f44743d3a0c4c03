// The operator's page: what arrives from the pipeline goes into its panels.

import { Link } from "./link.js";
import { ColourTables, PictureView } from "./picture.js";
import { ErrorView, PathView } from "./plots.js";
import { CorrelationView, HistogramView, showQuality } from "./quality.js";
import { ProjectionList, ServiceCards, showLosses } from "./tables.js";
import { DASH, digits, known, length, rateName, seconds, whole } from "./words.js";

const byId = (id) => document.getElementById(id);
const body = document.body;

function addFurniture(panel) {
  const heading = panel.querySelector("h2");
  for (const kind of ["label", "stale"]) {
    const span = document.createElement("span");
    span.className = kind;
    heading.append(span);
  }
  const button = document.createElement("button");
  button.className = "enlarge";
  button.textContent = "⤢";
  button.title = "Enlarge or put back (Esc)";
  button.setAttribute("aria-label", `Enlarge ${heading.firstChild.textContent}`);
  button.addEventListener("click", () => panel.classList.toggle("large"));
  panel.append(button);
}

function figure(name, words, mood = "", caption = null) {
  const box = byId(`figure-${name}`);
  box.className = `figure ${mood}`;
  box.querySelector("b").textContent = words;
  if (caption) box.querySelector("span").textContent = caption;
}

// The rate at which frames enter: that of the first service that reports one with "frame" in its name.
function frameRate(services) {
  for (const service of services) {
    for (const [key, value] of Object.entries(service.rates)) {
      if (key.includes("frame")) return { service: service.service, key: `${service.service}: ${key}`, value, unit: rateName(key)[1] };
    }
  }
  return null;
}

// What the rate was on average while there was one: of use once nothing more arrives.
function meanRate(points) {
  const busy = (points ?? []).map(([, value]) => value).filter((value) => value > 0);
  return busy.length ? busy.reduce((sum, value) => sum + value, 0) / busy.length : null;
}

function showFigures(state) {
  const now = state.current ?? state.measuring;
  const of = state.expected_projections;
  const place = now && !state.over ? `reconstructed · now ${now.number}` : "reconstructed";
  figure("projection", now ? `${state.reconstructed}${of ? ` / ${of}` : ""}` : DASH, "", place);
  const total = now?.frames_expected;
  figure("frames", `${whole(now?.frames)}${known(total) ? ` / ${whole(total)}` : ""}`);
  figure("error", digits(now?.error));
  const volume = state.volume;
  figure("resolution", length(now?.resolution_m), "", known(volume?.resolution_m) ? `resolution · 3-D ${length(volume.resolution_m)}` : "resolution");
  const rate = frameRate(state.services);
  const mean = state.all_measured && rate ? meanRate(services.rates[rate.key]) : null;
  const caption = rate ? `frames, ${known(mean) ? "mean" : rate.service}` : "frame rate";
  figure("rate", rate ? `${digits(mean ?? rate.value)} ${rate.unit}` : DASH, "", caption);
  const lags = state.services.filter((s) => known(s.lag_s));
  const worst = lags.reduce((a, b) => (a && a.lag_s >= b.lag_s ? a : b), null);
  figure("lag", worst ? seconds(worst.lag_s) : DASH, "", worst && worst.lag_s > 0 ? `largest lag, ${worst.service}` : "largest lag");
  const lost = state.losses.filter((l) => l.what === "frames lost").reduce((sum, l) => sum + l.count, 0);
  figure("lost", state.services.length ? whole(lost) : DASH, lost > 0 ? "bad" : "");
}

function showHeadline(state) {
  body.dataset.mood = state.mood;
  if (body.dataset.over !== String(state.over)) {
    body.dataset.over = state.over;
    for (const view of [...Object.values(views), correlation, ring]) view.surface.redraw();
  }
  byId("title").textContent = state.title;
  document.title = `${state.headline} · ${state.title}`;
  byId("scan").textContent = state.scan_id ?? DASH;
  byId("headline").textContent = state.headline;
  const complaints = state.complaints.map((c) => `${c.text}${c.count > 1 ? ` (${c.count}×)` : ""}`);
  byId("second-line").textContent = [state.second_line, ...complaints].filter(Boolean).join(" · ");
  for (const id of ["headline", "second-line", "scan"]) byId(id).title = byId(id).textContent;
}

const panelOf = (name) => byId(`panel-${name}`);
let latest = null;
let arrived = 0;

function showAges() {
  if (!latest) return;
  const since = (performance.now() - arrived) / 1000;
  for (const name of Object.keys(views)) {
    const picture = latest.pictures[name];
    const age = picture ? picture.age_s + since : 0;
    const due = !latest.over && !(latest.all_measured && ["frame", "path"].includes(name));
    const stale = due && age > latest.stale_after_s;
    panelOf(name).querySelector(".stale").textContent = stale ? `${seconds(age)} old` : "";
  }
}

document.querySelectorAll(".panel").forEach(addFurniture);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelectorAll(".large").forEach((panel) => panel.classList.remove("large"));
});

async function colourTables() {
  for (;;) {
    try {
      const answer = await fetch("api/colours");
      if (answer.ok) return new ColourTables(await answer.json());
    } catch {
      byId("headline").textContent = "The pipeline does not answer";
    }
    await new Promise((resume) => setTimeout(resume, 1000));
  }
}

const tables = await colourTables();
const views = { path: new PathView(panelOf("path")) };
document.querySelectorAll("[data-picture]").forEach((panel) => {
  views[panel.dataset.picture] = new PictureView(panel, tables);
});
const errors = new ErrorView(panelOf("errors"));
const correlation = new CorrelationView(panelOf("fsc"));
const ring = new CorrelationView(panelOf("frc"));
const histogram = new HistogramView(panelOf("quality"));
const projections = new ProjectionList(byId("projections"));
const services = new ServiceCards(byId("services"));

new Link({
  onState(state) {
    if (state.errors) errors.show(state.errors);
    if (state.projections) projections.replace(state.projections);
    if (state.quality !== undefined) {
      correlation.show(state.quality?.fsc, state.volume?.figures.resolution_half_bit_m ?? state.volume?.resolution_m);
      histogram.show(state.quality?.histogram, state.volume);
    }
    if (state.ring !== undefined) {
      ring.show(state.ring?.curve, state.ring?.resolution_m, state.ring ? `No. ${state.ring.number}` : "");
    }
    if (state.rates) services.setRates(state.rates);
    for (const [name, view] of Object.entries(views)) {
      if (!state.pictures[name] && view.header) {
        view.clear();
        panelOf(name).querySelector(".label").textContent = "";
      }
    }
    latest = state;
    arrived = performance.now();
    showHeadline(state);
    showFigures(state);
    showQuality(byId("quality"), state.volume);
    showLosses(byId("losses"), state.losses, state.services);
    projections.show(state);
    services.show(state.services);
    showAges();
  },
  onPicture(header, payload) {
    const view = views[header.name];
    if (!view) return;
    view.show(header, payload);
    const label = panelOf(header.name).querySelector(".label");
    label.textContent = header.label;
    label.title = [header.label, header.detail, header.note].filter(Boolean).join(" · ");
  },
  onChange(change) {
    const link = change === "gone" && latest?.over ? "over" : change;
    if (body.dataset.link === link) return;
    body.dataset.link = link;
    byId("link-text").textContent = { live: "live", over: "run over", gone: "no connection, trying again" }[link];
    if (link === "gone") {
      byId("headline").textContent = "The pipeline does not answer";
      byId("second-line").textContent = "What is shown is the last that was known.";
    }
  },
});
setInterval(showAges, 1000);
