// Services, losses and projections. Text from the wire only ever enters the page as text.

import { sparkline } from "./plots.js";
import { DASH, degrees, digits, known, length, rateName, seconds, whole } from "./words.js";

function element(tag, className, words) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (words !== undefined) node.textContent = words;
  return node;
}

function unbroken(words) {
  return words.replaceAll(" ", "\u00a0");
}

function row(cells, className = "") {
  const line = element("tr", className);
  for (const [words, kind] of cells) line.append(element("td", kind, words));
  return line;
}

export function showLosses(body, losses, services) {
  if (losses.length) {
    body.replaceChildren(
      ...losses.map((loss) => {
        const line = element("tr", loss.harmful ? "harm" : "");
        const meaning = element("td");
        meaning.append(
          element("b", "", loss.reason),
          ` · ${loss.what}, ${loss.service}. `,
          element("span", "meaning", loss.explanation),
        );
        line.append(element("td", "n", whole(loss.count)), meaning);
        return line;
      }),
    );
    return;
  }
  const line = element("tr", "empty");
  const cell = element("td", "", services.length ? "None reported by any service." : DASH);
  cell.colSpan = 2;
  line.append(cell);
  body.replaceChildren(line);
}

export class ProjectionList {
  constructor(body) {
    this.body = body;
    this.rows = [];
  }

  replace(rows) {
    this.rows = rows;
  }

  // Rows of finished projections come rarely; the one in progress comes with every state.
  show(state) {
    const live = new Map([state.measuring, state.current].filter(Boolean).map((r) => [r.number, r]));
    const merged = this.rows.map((r) => live.get(r.number) ?? r);
    for (const r of live.values()) if (!merged.some((m) => m.number === r.number)) merged.push(r);
    merged.sort((a, b) => b.number - a.number);
    const key = JSON.stringify(merged);
    if (key === this.key) return;
    this.key = key;
    this.body.replaceChildren(...merged.map((r) => row(
      [
        [String(r.number), "n"],
        [degrees(r.angle_deg), "n"],
        [known(r.frames_expected) ? `${r.frames ?? r.frames_measured ?? DASH} / ${r.frames_expected}` : whole(r.frames ?? r.frames_measured), "n"],
        [whole(r.lost), "n"],
        [digits(r.error), "n"],
        [length(r.resolution_m), "n"],
        [seconds(r.latency_s), "n"],
        [r.state],
      ],
      r.state === "final" ? "" : "active",
    )));
  }
}

export class ServiceCards {
  constructor(holder) {
    this.holder = holder;
    this.cards = new Map();
    this.rates = {};
  }

  setRates(rates) {
    this.rates = rates;
  }

  show(services) {
    const names = new Set(services.map((s) => s.service));
    for (const [name, card] of this.cards) {
      if (!names.has(name)) {
        card.remove();
        this.cards.delete(name);
      }
    }
    services.forEach((service, place) => {
      const card = this.card(service.service);
      if (this.holder.children[place] !== card) this.holder.insertBefore(card, this.holder.children[place] ?? null);
      card.className = `card ${service.state}${service.stale ? " stale" : ""}`;
      card.title = service.text;
      const silent = service.stale ? `silent for ${seconds(service.age_s)}` : service.state;
      card.querySelector(".state").textContent = silent;
      card.querySelector(".says").textContent = service.text;
      const rates = Object.entries(service.rates).map(([key, value]) => {
        const [what, unit] = rateName(key);
        return `${what} ${digits(value)}${unit.startsWith("/") ? "" : " "}${unit}`.trim();
      });
      card.querySelector(".rates").textContent = [...rates, service.queue > 0 ? `queue ${whole(service.queue)}` : "", `lag ${seconds(service.lag_s)}`].filter(Boolean).map(unbroken).join(" · ");
      const counters = Object.entries(service.counters).map(([key, value]) => `${key.replaceAll("_", " ")} ${whole(value)}`).map(unbroken);
      card.querySelector(".counters").textContent = counters.join(" · ");
      const first = Object.keys(service.rates)[0];
      sparkline(card.querySelector("canvas"), this.rates[`${service.service}: ${first}`] ?? []);
    });
  }

  card(name) {
    let card = this.cards.get(name);
    if (!card) {
      card = element("div", "card");
      const top = element("div", "top");
      const below = element("div", "below");
      top.append(element("b", "", name), element("span", "rates"), element("span", "state"));
      below.append(element("p", "says"), element("canvas"));
      card.append(top, below, element("p", "counters"));
      this.cards.set(name, card);
      this.holder.append(card);
    }
    return card;
  }
}
