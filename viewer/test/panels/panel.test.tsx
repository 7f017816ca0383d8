import { beforeEach, describe, expect, it, vi } from "vitest";
import type { CaseInfo, Compared, Measure } from "../../src/api/types";
import { compareWith, comparing, endComparison, mostDifferent, outcome } from "../../src/panels/comparing";
import { comparison } from "../../src/panels/comparison";
import { sentTexts } from "../../src/panels/home";
import { measured } from "../../src/panels/measures";
import { Panel } from "../../src/panels/panel";
import { unfold } from "../../src/panels/section";
import { takenHome } from "../../src/panels/taken";
import type { Scan } from "../../src/scan/scan";
import { cursor, messages, reading as open, openCase, scan } from "../../src/state";
import { ask } from "../../src/tools/steps";
import { grid } from "../scan/grid";
import { FakeReading, square, structure } from "./fake";
import { act, button, click, mount } from "./mount";

const COMPARED: Compared = {
  reference: "ref",
  structures: [
    { name: "liver", object: 1, dice: 0.9, hd95_mm: 3.25, assd_mm: 0.5, volume_ml: 1.5, volume_ref_ml: 1.25 },
    { name: "spleen", object: null, dice: null, hd95_mm: null, assd_mm: null, volume_ml: null, volume_ref_ml: 120 },
  ],
};
const results = vi.hoisted(() => ({
  measures: vi.fn(),
  compare: vi.fn(),
  comparedMasks: vi.fn(),
  sessionsOf: vi.fn(),
  exportLabels: vi.fn(),
  save: vi.fn(),
  sendToPacs: vi.fn(),
  vocabulary: vi.fn(),
}));
vi.mock("../../src/api/results", () => results);
vi.mock("../../src/api/pacs", () => ({ pacsServers: async () => ["archive"] }));

const LIVER: Measure = {
  object: 1,
  name: "liver",
  voxels: 1500,
  volume_ml: 1.5,
  diameter_mm: 21.34,
  slice: 7,
  mean: 52.2,
  std: 14.1,
  minimum: 0,
  maximum: 100,
  units: "HU",
};
const CASE = { id: "case", format: "dicom", name: "CT 1" } as CaseInfo;

let reading: FakeReading;
beforeEach(() => {
  for (const one of Object.values(results)) one.mockReset().mockResolvedValue([]);
  reading = new FakeReading();
  reading.masks.put(1, 10);
  open.value = reading;
  openCase.value = CASE;
  scan.value = { geometry: grid({ shape: [20, 16, 16] }) } as Scan;
  cursor.value = [0, 0, 10];
  messages.value = [];
  takenHome.value = null;
  for (const name of ["structures", "volume", "compare", "home"] as const) unfold(name);
});

describe("how the scan was read", () => {
  it("is said once when the case is opened, and stands in the panel", async () => {
    const [units, window_] = ["This CT does not say its values are HU.", "The window is a guess."];
    scan.value = { geometry: grid({ notes: [units] }) } as Scan;
    const noted = () => Object.assign(new FakeReading(), { notes: [units, window_], caseId: "noted" });
    open.value = noted();
    const root = await mount(<Panel />);
    expect(messages.value.map((one) => one.text)).toEqual([`How this scan was read:\n${units}\n${window_}`]);
    expect(root.querySelector("section.panels-caveat")!.textContent).toBe(units + window_);
    messages.value = [];
    await act(() => {
      open.value = noted();
    });
    expect(messages.value).toEqual([]);
  });
});

describe("structures", () => {
  it("say volume, largest diameter and mean of the active one, and show the diameter's slice", async () => {
    const root = await mount(<Panel />);
    await act(() => {
      measured.value = new Map([[1, LIVER]]);
    });
    const words = [...root.querySelectorAll(".panels-measures dd")].map((one) => one.textContent);
    expect(words).toEqual(["1.5 ml", "21.3 mmslice 8", "52 ± 14 HU"]);
    await click(button(root, "slice 8"));
    expect(cursor.value).toEqual([0, 0, 7]);
  });
  it("count pixels where there are no millimetres", async () => {
    const root = await mount(<Panel />);
    await act(() => {
      measured.value = new Map([[1, { ...LIVER, volume_ml: null, diameter_mm: null, units: null }]]);
    });
    const words = [...root.querySelectorAll(".panels-measures dd")].map((one) => one.textContent);
    expect(words).toEqual(["1,500 pixels", "52 ± 14 "]);
  });
  it("are chosen, hidden and locked", async () => {
    const root = await mount(<Panel />);
    await click(button(root, "kidney right"));
    expect(reading.active.value).toBe(2);
    await click(button(root, "Hide kidney right"));
    await click(button(root, "Lock liver"));
    expect(reading.calls).toEqual([
      ["changeObject", 2, { visible: false }],
      ["changeObject", 1, { locked: true }],
    ]);
    expect(button(root, "Show kidney right")).toBeTruthy();
    expect(button(root, "Unlock liver")).toBeTruthy();
  });
  it("are added by a name that the field is left with, and drawn on before the answer is there", async () => {
    const root = await mount(<Panel />);
    await click(button(root, "Add a structure"));
    const field = root.querySelector<HTMLInputElement>("[role=combobox]")!;
    await act(() => {
      field.value = "spleen";
      field.dispatchEvent(new InputEvent("input", { bubbles: true }));
    });
    await act(async () => {
      // as by a press on the picture
      field.blur();
      await ask(10, { box: [0, 0, 4, 4] });
    });
    expect(reading.calls).toEqual([
      ["addObject", "spleen"],
      ["prompt", { object: 3, slice: 10, box: [0, 0, 4, 4] }],
    ]);
    expect(root.querySelector("[role=combobox]")).toBeNull();
  });
  it("are deleted, which can be undone, and leave the neighbour active", async () => {
    const root = await mount(<Panel />);
    await click(button(root, "Delete liver"));
    expect(reading.calls).toEqual([["removeObject", 1]]);
    expect(reading.active.value).toBe(2);
    const message = messages.value.at(-1)!;
    expect(message.text).toBe("liver is deleted.");
    message.action!.run();
    expect(reading.calls.at(-1)).toEqual(["undo"]);
  });
  it("say where undo would take back another step than the deletion", async () => {
    const root = await mount(<Panel />);
    await click(button(root, "Delete liver"));
    reading.undoable.value += 1;
    messages.value.at(-1)!.action!.run();
    expect(reading.calls).toEqual([["removeObject", 1]]);
    expect(messages.value.at(-1)!.text).toMatch(/^Another step came after liver was deleted/);
  });
  it("that are locked are not deleted", async () => {
    reading.objects.value = [structure(1, "liver", { locked: true })];
    const root = await mount(<Panel />);
    await click(button(root, "Delete liver"));
    expect(reading.calls).toEqual([]);
    expect(messages.value.at(-1)!.text).toMatch(/unlock/);
  });
  it("of another reader cannot be changed", async () => {
    reading.mine = false;
    const root = await mount(<Panel />);
    expect(root.textContent).toContain("another reader's work");
    expect(root.textContent).not.toContain("Add a structure");
    expect(button(root, "Hide liver").disabled).toBe(true);
  });
});

describe("through the volume", () => {
  it("says why a button does nothing when it is pressed", async () => {
    const root = await mount(<Panel />);
    await click(button(root, "Fill between"));
    expect(reading.calls).toEqual([]);
    expect(messages.value.at(-1)!.text).toMatch(/two slices/);
  });
  it("has progress with a stop, and how it ended", async () => {
    const root = await mount(<Panel />);
    const job = { id: "j", object: 1, done: 3, total: 19, detail: null };
    await act(() => {
      reading.jobs.value = [{ ...job, state: "running" }];
    });
    expect(root.querySelector("progress")!.getAttribute("value")).toBe("3");
    expect(root.textContent).toContain("liver: 3 of at most 19 slices");
    await click(button(root, "Stop the propagation of liver"));
    expect(reading.calls).toEqual([["stop", "j"]]);
    await act(() => {
      reading.jobs.value = [{ ...job, state: "stopped", done: 5 }];
    });
    expect(root.querySelector("progress")).toBeNull();
    const said = root.querySelector(".panels-ended")!.textContent;
    expect(said).toContain("Stopped");
    expect(root.textContent).toContain("Slices with a mask: 1.");
    await act(() => reading.masks.put(1, 11));
    expect(root.textContent).toContain("Slices with a mask: 2.");
    // what is read aloud when it changes
    expect(root.querySelector("[role=status].panels-ended")!.textContent).toBe(said);
  });
  it("says no more how a propagation ended that was undone", async () => {
    reading.masks.put(1, 11, "propagated");
    reading.jobs.value = [
      { id: "j", object: 1, state: "done", done: 9, total: 9, detail: null, stopped: { 12: "vanished" } },
    ];
    const root = await mount(<Panel />);
    expect(root.querySelector(".panels-ended")!.textContent).toBe(
      "Done.It ended at slice 13: nothing more was found there.",
    );
    await act(() => {
      reading.masks.put(1, 11, "removed", square(0));
      reading.redoable.value = 1;
    });
    expect(root.querySelector(".panels-ended")!.textContent).toBe("");
  });
  it("lists the least sure slices, which lead there", async () => {
    for (const slice of [11, 12, 13, 14]) reading.masks.put(1, slice, "propagated");
    reading.sure(1, { 11: 0.9, 12: 0.42, 13: 0.31, 14: 0.8 });
    const root = await mount(<Panel />);
    const lines = [...root.querySelectorAll(".panels-unsure button")].map((one) => one.textContent);
    expect(lines).toEqual(["Slice 14: confidence 31%", "Slice 13: confidence 42%", "Slice 15: confidence 80%"]);
    await click(button(root, "Slice 13"));
    expect(cursor.value).toEqual([0, 0, 12]);
  });
  it("is not there for a picture", async () => {
    reading.slices = 1;
    const root = await mount(<Panel />);
    expect(root.textContent).not.toContain("Through the volume");
  });
});

describe("comparison", () => {
  const line = { case: "case", case_name: "CT", axis: "k", model: "litemedsam", began: "2026-11-29T12:00:00Z" };
  async function compared(): Promise<HTMLElement> {
    results.sessionsOf.mockResolvedValue([
      { ...line, id: "session", owner: "anna", closed: null },
      { ...line, id: "other", owner: "ben", closed: "2026-11-29T13:00:00Z" },
    ]);
    results.compare.mockResolvedValue(COMPARED);
    const root = await mount(<Panel />);
    const select = root.querySelector("select")!;
    await act(async () => {
      select.value = "other";
      select.dispatchEvent(new Event("change", { bubbles: true }));
    });
    return root;
  }
  it("offers other readings of the scan, not this one", async () => {
    const root = await compared();
    const offered = [...root.querySelectorAll("select")[0]!.options].map((one) => one.value);
    expect(offered).toEqual(["", "other"]);
    expect(results.compare).toHaveBeenCalledExactlyOnceWith("session", { session: "other" }, expect.any(AbortSignal));
  });
  it("is a table, with dashes for what one side does not have", async () => {
    const root = await compared();
    const rows = [...root.querySelectorAll("tbody tr")].map((row) => [...row.children].map((one) => one.textContent));
    expect(rows).toEqual([
      ["liver", "0.900", "3.3", "0.5", "1.5 / 1.3"],
      ["spleen", "–", "–", "–", "– / 120"],
    ]);
  });
  it("gives the picture the reference's masks of what both have", async () => {
    await compared();
    expect(results.comparedMasks).toHaveBeenCalledExactlyOnceWith("session", "ref", 1, expect.any(AbortSignal));
    expect(comparison.value!.session).toBe("session");
    expect(comparison.value!.title).toMatch(/^ben, .*\(closed\)$/);
  });
  it("can be made again once masks changed, and ended", async () => {
    const root = await compared();
    expect(root.textContent).not.toContain("Compare again");
    await act(() => reading.masks.put(1, 11));
    await click(button(root, "Compare again"));
    expect(results.compare).toHaveBeenCalledTimes(2);
    await click(button(root, "End comparison"));
    expect([outcome.value, comparison.value]).toEqual([null, null]);
  });
  it("can be of one structure alone, shown where it is largest", async () => {
    const root = await compared();
    await act(() => reading.masks.put(1, 4, "refined", square(9)));
    await click(root.querySelector("table button"));
    expect([comparison.value!.object, cursor.value[2]]).toEqual([1, 4]);
    await click(root.querySelector("table button"));
    expect(comparison.value!.object).toBeNull();
  });
  it("says how the reference was read, and where no name is shared", async () => {
    const root = await compared();
    expect(root.textContent).not.toContain("no structure of these names");
    results.compare.mockResolvedValue({ ...COMPARED, structures: [COMPARED.structures[1]], notes: ["Read as SEG."] });
    await act(() => reading.masks.put(1, 12));
    await click(button(root, "Compare again"));
    expect(root.textContent).toContain("Read as SEG.");
    expect(root.textContent).toContain("no structure of these names");
  });
  it("ends with the reading", async () => {
    await compared();
    await act(() => {
      open.value = null;
    });
    expect(comparison.value).toBeNull();
  });
  it("that comes after the reading was left is nobody's, and hinders no other", async () => {
    let arrive = (_: Compared) => {};
    results.compare.mockReturnValue(new Promise<Compared>((go) => (arrive = go)));
    const under = compareWith(reading, { session: "other" }, "ben").catch((error: Error) => error.name);
    endComparison();
    arrive(COMPARED);
    expect(await under).toBe("AbortError");
    expect([outcome.value, comparison.value, comparing.value]).toEqual([null, null, false]);
  });
  it("of another reading is not shown beside this one", async () => {
    const root = await compared();
    await act(() => {
      outcome.value = { ...outcome.value!, session: "before" };
    });
    expect(root.textContent).not.toContain("End comparison");
  });
  it("knows the slice that differs most", () => {
    const theirs = new FakeReading().masks;
    theirs.put(1, 10, "refined", square(4, 1, 0)); // 4 x 4 against one moved by a column: 8 pixels differ
    theirs.put(1, 11, "refined", square(5)); // mine is not there: 25
    comparison.value = { session: "session", reference: theirs, title: "", object: null };
    expect(mostDifferent(reading, 1)).toBe(11);
    reading.masks.put(1, 11, "refined", square(5));
    expect(mostDifferent(reading, 1)).toBe(10);
    reading.masks.put(1, 10, "refined", square(4, 1, 0));
    expect(mostDifferent(reading, 1)).toBeUndefined();
    endComparison();
  });
});

describe("take home", () => {
  it("saves a file, says under which name, and is safe then", async () => {
    results.exportLabels.mockResolvedValue({ name: "labels-abc.dcm", blob: new Blob(), revision: 2, first: 3 });
    const root = await mount(<Panel />);
    expect(root.textContent).toContain("not saved as a file yet");
    await click(button(root, "DICOM SEG"));
    expect(results.exportLabels).toHaveBeenCalledExactlyOnceWith("session", "seg");
    await expect.poll(() => document.body.textContent).toContain("cannot refine any more: 3.");
    expect(results.save).toHaveBeenCalledOnce();
    expect(root.textContent).toContain("Saved as labels-abc.dcm.");
    expect(root.textContent).not.toContain("not saved as a file yet");
    // refined for the file, which is heard of later
    await act(() => reading.masks.put(1, 10));
    expect(root.textContent).not.toContain("not saved as a file yet");
    await act(() => void reading.changeObject(1, { visible: false }));
    expect(root.textContent).not.toContain("not saved as a file yet");
    await act(() => void reading.changeObject(1, { name: "spleen" }));
    expect(root.textContent).toContain("not saved as a file yet");
    await click(button(root, "DICOM SEG"));
    await act(() => reading.masks.put(1, 11));
    expect(root.textContent).toContain("not saved as a file yet");
  });
  it("waits for steps that are on their way", async () => {
    let answer = () => {};
    const answered = new Promise<undefined>((go) => (answer = () => go(undefined)));
    reading.settled = () => answered;
    results.exportLabels.mockResolvedValue({ name: "labels-abc.dcm", blob: new Blob(), revision: 2, first: 0 });
    const root = await mount(<Panel />);
    await click(button(root, "DICOM SEG"));
    expect(results.exportLabels).not.toHaveBeenCalled();
    await act(async () => answer());
    expect(results.exportLabels).toHaveBeenCalledOnce();
  });
  it("says nothing of another reading's files", async () => {
    results.exportLabels.mockResolvedValue({ name: "labels-abc.dcm", blob: new Blob(), revision: 2, first: 0 });
    const root = await mount(<Panel />);
    await click(button(root, "DICOM SEG"));
    await act(() => {
      open.value = Object.assign(new FakeReading(), { id: "another" });
    });
    expect(root.textContent).not.toContain("Saved as");
  });
  it("says what it waits for", async () => {
    reading.masks.put(1, 11, "first");
    results.exportLabels.mockReturnValue(new Promise(() => {}));
    const root = await mount(<Panel />);
    await click(button(root, "NIfTI"));
    expect(root.textContent).toContain("Waiting for 1 refined answers");
    await click(button(root, "NRRD"));
    expect(results.exportLabels).toHaveBeenCalledOnce();
  });
  it("says why there is no SEG of a scan that is not DICOM", async () => {
    openCase.value = { ...CASE, format: "nifti" };
    const root = await mount(<Panel />);
    await click(button(root, "DICOM SEG"));
    expect(results.exportLabels).not.toHaveBeenCalled();
    expect(messages.value.at(-1)!.text).toMatch(/take NIfTI or NRRD/);
  });
  it("warns of what a file would lack", async () => {
    reading.objects.value = [structure(1, "liver", { visible: false }), structure(2, "spleen")];
    reading.jobs.value = [{ id: "j", object: 1, state: "running", done: 3, total: 19, detail: null }];
    reading.pending.value = 2;
    const root = await mount(<Panel />);
    const caveats = [...root.querySelectorAll(".panels-caveat")].map((one) => one.textContent);
    expect(caveats).toEqual([
      "2 steps are not confirmed by the server yet.",
      "A propagation is under way: a file now has what was found so far.",
      "Hidden structures (1) are in the file too.",
      "Structures without a mask (1) are not in the file.",
    ]);
  });
  it("says whether the PACS took it", () => {
    expect(sentTexts({ stored: 1, failures: [], notes: ["It is there twice."] }, "archive")).toEqual([
      "archive has stored it.",
      "It is there twice.",
    ]);
    expect(sentTexts({ stored: 0, failures: ["Out of resources."], notes: [] }, "archive")).toEqual([
      "archive has not stored it. Out of resources.",
    ]);
  });
});
