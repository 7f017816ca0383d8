// A project and a task of it, for tests.

import type { ProjectInfo, TaskInfo } from "../../src/api/annotate";

export function aTask(more: Partial<TaskInfo> = {}): TaskInfo {
  return {
    id: "t1",
    scan: "ct_1",
    case: "case",
    kind: "draw",
    stage: 1,
    structures: ["liver", "kidney right"],
    slices: null,
    state: "taken",
    session: "session",
    until: null,
    proposals: 0,
    note: null,
    why: null,
    mine: true,
    holder: "Anna",
    after: null,
    own: false,
    ...more,
  };
}

export function aProject(more: Partial<ProjectInfo> = {}): ProjectInfo {
  return {
    name: "Livers",
    structures: [
      { name: "liver", colour: "#aa0000" },
      { name: "kidney right", colour: "#00aa00" },
    ],
    stage: 2,
    order: "unsure",
    round: null,
    weights: null,
    model: "litemedsam",
    me: { task: null, case: null, done: 3, today: 12, masks: 31, gold: null },
    counts: { open: 5, audits: 0, mine: 4, second: 0, taken: 1, submitted: 2, approved: 2, skipped: 0, to_review: 2 },
    reviewer: false,
    ...more,
  };
}
