import { beforeEach, describe, expect, it, vi } from "vitest";
import type { JobInfo, OrganRow, OrgansInfo } from "../../src/api/types";
import { OrgansPart } from "../../src/panels/organs";
import { VolumePart } from "../../src/panels/volume";
import { messages } from "../../src/state";
import { FakeReading } from "./fake";
import { act, button, click, mount } from "./mount";

const results = vi.hoisted(() => ({ organs: vi.fn(), organStatistics: vi.fn(), save: vi.fn() }));
vi.mock("../../src/api/results", () => results);

const BY = { head: "names", tested_on_patients: 21, tested_dice: 0.775, tested_scans_without: 0 };
const OFFER: OrgansInfo = {
  modality: "MR",
  modality_by: "not below 0",
  structures: [
    { structure: "spleen", object: null, ...BY },
    { structure: "liver", object: 1, ...BY, head: "boxes", tested_scans_without: 4 },
  ],
  lack: null,
};
const ROWS: OrganRow[] = [
  { structure: "liver", object: 1, outcome: "kept", voxels: null, ml: null, ...BY },
  { structure: "spleen", object: 3, outcome: "found", voxels: 100, ml: 0.42, ...BY, tested_scans_without: 2 },
  { structure: "left kidney", object: null, outcome: "absent", voxels: 0, ml: 0, ...BY },
];

let reading: FakeReading;
beforeEach(() => {
  for (const one of Object.values(results)) one.mockReset();
  results.organs.mockResolvedValue(OFFER);
  reading = new FakeReading();
  messages.value = [];
});

async function opened() {
  const root = await mount(<OrgansPart reading={reading} />);
  await click(button(root, "Find organs"));
  await act(async () => {});
  return root;
}

function now(job: Partial<JobInfo>) {
  return act(async () => {
    reading.jobs.value = [{ ...reading.jobs.value[0]!, ...job }];
  });
}

const cells = (root: Element) =>
  [...root.querySelectorAll("tbody tr")].map((row) => [...row.children].map((one) => one.textContent));

describe("the search for organs", () => {
  it("says what the scan is taken for and what would be looked for, before anything runs", async () => {
    const root = await opened();
    expect(results.organs).toHaveBeenCalledWith("session", expect.anything());
    expect(root.textContent).toContain("taken for MR: guessed, for its values do not go below 0.");
    expect(cells(root)).toEqual([
      ["spleen", "is looked for", "names", "21 patients, Dice 0.775"],
      ["liver", "has a mask, which stays", "boxes", "21 patients, Dice 0.775"],
    ]);
    expect(root.textContent).toContain("spleen: never measured on scans without it.");
    expect(reading.calls).toEqual([]);
    await click(button(root, "Look for 1"));
    expect(reading.calls).toEqual([["findOrgans"]]);
  });
  it("shows how far it is, can be stopped, and keeps the focus in the dialog", async () => {
    const root = await opened();
    button(root, "Look for 1").focus();
    await click(button(root, "Look for 1"));
    const dialog = root.querySelector("dialog")!;
    expect(dialog.contains(document.activeElement)).toBe(true);
    await now({ state: "running", done: 3, total: 20 });
    const bar = dialog.querySelector("progress")!;
    expect([bar.value, bar.max]).toEqual([3, 20]);
    expect(dialog.textContent).toContain("Organs: 3 of 20 slices");
    await click(button(dialog, "Stop the search"));
    expect(reading.calls.at(-1)).toEqual(["stop", "organs"]);
    await now({ state: "stopped" });
    expect(root.textContent).toContain("The search for organs was stopped; nothing was drawn.");
  });
  it("lists what was found, what was not and what was kept, and saves a table", async () => {
    reading.jobs.value = [
      { id: "organs", object: null, state: "done", done: 20, total: 20, detail: null, structures: ROWS },
    ];
    results.organStatistics.mockResolvedValue({ blob: new Blob(["a"]), name: "organs-1.csv" });
    const root = await mount(<OrgansPart reading={reading} />);
    expect(root.querySelector("[role=status]")!.textContent).toContain("Organs: 1 of 2 found.");
    await click(button(root, "Show"));
    expect(cells(root.querySelector("table")!)).toEqual([
      ["liver", "has a mask, which stays", "names", "21 patients, Dice 0.775"],
      ["spleen", "0.42 ml", "names", "21 patients, Dice 0.775"],
      ["left kidney", "not found", "names", "21 patients, Dice 0.775"],
    ]);
    expect(root.textContent).toContain("Part of the body, by what was found: spleen.");
    await click(button(root, "Save as a table"));
    expect(results.organStatistics).toHaveBeenCalledWith("session", "organs");
    expect(results.save).toHaveBeenCalledWith(expect.objectContaining({ name: "organs-1.csv" }));
  });
  it("says why there is nothing to look for, and offers no button then", async () => {
    results.organs.mockResolvedValue({ ...OFFER, structures: [], lack: "untested" });
    const root = await opened();
    expect(root.textContent).toContain("so nothing is offered");
    expect([...root.querySelectorAll("dialog .button")]).toEqual([]);
    await click(root.querySelector("dialog [aria-label=Close]"));
    results.organs.mockResolvedValue({ ...OFFER, structures: [OFFER.structures[1]!] });
    await click(button(root, "Find organs"));
    await act(async () => {});
    expect(root.textContent).toContain("All that could be looked for has a mask already.");
  });
  it("is no propagation, and nobody who only looks starts one", async () => {
    reading.active.value = null;
    reading.jobs.value = [{ id: "organs", object: null, state: "running", done: 1, total: 9, detail: null }];
    const volume = await mount(<VolumePart reading={reading} />);
    expect(volume.querySelector("progress")).toBeNull();
    expect(volume.textContent).not.toContain("under way");
    reading.mine = false;
    const root = await mount(<OrgansPart reading={reading} />);
    expect(root.textContent).toBe("");
  });
});
