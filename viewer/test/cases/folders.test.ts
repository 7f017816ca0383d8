import { describe, expect, it } from "vitest";
import { filesDropped } from "../../src/api/cases";

/** A file or a folder as browsers hand them over; folders give a hundred at a time. */
function entry(name: string, inside: FileSystemEntry[] | null, path = `/${name}`): FileSystemEntry {
  if (inside === null) {
    return {
      isFile: true,
      fullPath: path,
      file: (found: (file: File) => void) => found(new File(["x"], name)),
    } as unknown as FileSystemEntry;
  }
  return {
    isFile: false,
    isDirectory: true,
    fullPath: path,
    createReader: () => {
      let at = 0;
      return {
        readEntries: (found: (some: FileSystemEntry[]) => void) => {
          found(inside.slice(at, at + 100));
          at += 100;
        },
      };
    },
  } as unknown as FileSystemEntry;
}

function dropped(...entries: FileSystemEntry[]): DataTransfer {
  return { items: entries.map((one) => ({ webkitGetAsEntry: () => one })), files: [] } as unknown as DataTransfer;
}

const paths = async (transfer: DataTransfer) => (await filesDropped(transfer)).map((one) => one.path);

describe("a folder that is dropped", () => {
  it("brings the files of all folders in it, with where they lay", async () => {
    const inner = entry("b", [entry("2.dcm", null, "/a/b/2.dcm")], "/a/b");
    const folder = entry("a", [entry("1.dcm", null, "/a/1.dcm"), inner]);
    expect(await paths(dropped(folder, entry("c.nii.gz", null)))).toEqual(["a/1.dcm", "a/b/2.dcm", "c.nii.gz"]);
  });

  it("brings more than come at once", async () => {
    const many = Array.from({ length: 350 }, (_, number) => entry(`${number}.dcm`, null, `/a/${number}.dcm`));
    expect((await paths(dropped(entry("a", many)))).length).toBe(350);
  });

  it("leaves what file managers put into folders", async () => {
    const inside = [".DS_Store", "Thumbs.db", "1.dcm"].map((name) => entry(name, null, `/a/${name}`));
    expect(await paths(dropped(entry("a", inside)))).toEqual(["a/1.dcm"]);
  });

  it("may be empty", async () => {
    expect(await paths(dropped(entry("a", [])))).toEqual([]);
  });
});
