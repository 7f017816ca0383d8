import { beforeEach, expect, it, vi } from "vitest";
import { PacsSearch } from "../../src/cases/pacs";
import { servers } from "../../src/cases/servers";
import { act, mount } from "../panels/mount";

const pacs = vi.hoisted(() => ({ pacsServers: vi.fn(), pacsFind: vi.fn(), pacsFetch: vi.fn() }));
vi.mock("../../src/api/pacs", () => pacs);

const STUDY = {
  patient_id: "1",
  patient_name: "DOE^JANE",
  date: "20260102",
  modalities: ["CT"],
  description: "",
  study: "1.2",
  series_count: 1,
};

beforeEach(() => {
  pacs.pacsFind.mockReset();
  servers.value = ["archive", "backup"];
});

it("an answer of the server that was chosen before is shown no more", async () => {
  const late = { found: [STUDY], more: false };
  let arrive = () => {};
  pacs.pacsFind.mockImplementation((_server, _keys, _level, _limit, signal: AbortSignal) => {
    return new Promise((go, fail) => {
      signal.addEventListener("abort", () => fail(signal.reason));
      arrive = () => go(late);
    });
  });
  const root = await mount(<PacsSearch />);
  await act(async () => void root.querySelector("form")!.dispatchEvent(new Event("submit", { cancelable: true })));
  const select = root.querySelector("select")!;
  await act(async () => {
    select.value = "backup";
    select.dispatchEvent(new Event("change", { bubbles: true }));
    arrive();
  });
  expect(root.querySelectorAll(".cases-pacs-study")).toHaveLength(0);
  pacs.pacsFind.mockResolvedValue(late);
  await act(async () => void root.querySelector("form")!.dispatchEvent(new Event("submit", { cancelable: true })));
  await act(async () => (root.querySelector(".cases-pacs-study") as HTMLElement).click());
  expect(pacs.pacsFind.mock.calls.map(([server]) => server)).toEqual(["archive", "backup", "backup"]);
});
