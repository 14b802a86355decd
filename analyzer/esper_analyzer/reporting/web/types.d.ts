// What the pages are handed by Python, and what their scripts make of it. Only the type checker reads this file.
// The packed data is made by reporting/html_charts.py and reporting/comparison/html.py, which say what it means.

declare type Level = "healthy" | "warning" | "critical" | "unknown";

/** First and last update, and for a range that is not finite its kind: a position in `KINDS`. */
declare type Span = [first: number, last: number, kind: number];

/** A value for each place; null breaks the line, undefined lets it pass through. */
declare type Column = (number | null | undefined)[];

declare type Table = [places: number[], values: Column];

/** A warning's or critical's word, its comparison and its bound. */
declare type Band = [level: string, comparison: ">" | ">=" | "<" | "<=", bound: number];

declare interface PackedLine {
  rank: number | null;
  run?: number;
  updates: number[];
  values: (number | null)[];
  nonfinite: number[];
  stretches: number[];
  means: number[];
}

declare interface ChartSpec {
  id: string;
  name: string;
  title: string;
  main: boolean;
  log: boolean;
  median: number | null;
  bands: Band[];
  lines: PackedLine[];
}

declare interface AlertSpec {
  update: number;
  since: number;
  until: number | null;
  times: string;
  lasts: boolean;
  drawn: boolean;
  level: Level;
  metric: string;
  chart: string;
}

declare interface AxisSpec {
  name: string;
  updates: number[];
  values: number[];
}

declare interface PageData {
  run: string;
  first: number;
  last: number;
  width: number;
  missing: number[];
  missing_of: number[][];
  alerts: AlertSpec[];
  attempts: [attempt: number, first: number][];
  axes: AxisSpec[];
  charts: ChartSpec[];
}

/** A run of a comparison; `colour` is added by the page. */
declare interface RunSpec {
  name: string;
  first: number | null;
  last: number;
  group: number | null;
  short: boolean;
  colour: number;
}

declare interface CompareData extends Omit<PageData, "axes" | "missing" | "missing_of" | "alerts" | "attempts"> {
  by: string;
  axes: { name: string; runs: (Omit<AxisSpec, "name"> | null)[] }[];
  runs: RunSpec[];
  groups: { name: string; title: string }[];
}

/** A line of a chart, unpacked. */
declare interface Line {
  rank: number | null;
  updates: number[];
  values: (number | null)[];
  nonfinite: Span[];
  stretches: number[];
  means: number[];
  known: [updates: number[], values: number[]] | null;
}

/** The line of a run in a comparison: `updates` are places on the axis of the page, and `recorded` has the updates. */
declare interface OverlayLine extends Line {
  run: number;
  recorded: { updates: number[]; values: (number | null)[]; nonfinite: Span[]; middles: number[]; means: Column };
  middles: number[];
  smoothed: Column;
}

/** The centre and the ends of the band of a group. */
declare interface Together {
  places: number[];
  centre: number[];
  low: number[];
  high: number[];
}
