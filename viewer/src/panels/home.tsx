// Take home: files, and back to the PACS.

import { signal, untracked } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { pacsServers } from "../api/pacs";
import { exportLabels, save, sendToPacs } from "../api/results";
import type { SentInfo } from "../api/types";
import { t } from "../i18n";
import type { Reading } from "../reading/reading";
import { hasEnded } from "../reading/told";
import { number } from "../shell/format";
import { openCase } from "../state";
import { Act } from "./act";
import { tried } from "./actions";
import { drawnObjects, type Format, firstAnswers, offers } from "./exports";
import { spoken } from "./format";
import { unsafe } from "./lost";
import { followOverlaps, overlaps } from "./overlaps";
import { Section } from "./section";
import { calledNow, takenHome } from "./taken";

/** What is being made, and what came of the last one. */
const making = signal<Format | "send" | null>(null);
const told = signal<{ session: string; lines: readonly string[] } | null>(null);

export function HomePart({ reading }: { reading: Reading }) {
  const scan = openCase.value;
  reading.masks.version.value;
  const drawn = drawnObjects(reading);
  const offered = offers({ format: scan?.format ?? "nifti" }, reading.slices, drawn > 0);
  const reasons = [...new Set(offered.flatMap((one) => (one.why === null ? [] : [one.why])))];
  return (
    <Section name="home" title={t("panels.home")} note={unsafe.value === "not-home" ? t("panels.not-home") : undefined}>
      <Caveats reading={reading} />
      <fieldset class="panels-formats" aria-label={t("panels.files")}>
        {offered.map(({ format, why }) => (
          <Act
            key={format}
            class={format === "seg" && why === null ? "button" : "button-quiet"}
            why={why !== null ? t(why) : making.value !== null ? t("panels.making") : null}
            busy={making.value === format}
            title={t(`panels.format-${format}-long`)}
            onDo={() => void take(reading, format)}
          >
            {t(`panels.format-${format}`)}
          </Act>
        ))}
      </fieldset>
      {reasons.map((reason) => (
        <p key={reason} class="panels-hint">
          {t(reason)}
        </p>
      ))}
      {reading.mine && <Send reading={reading} possible={scan?.format === "dicom" && drawn > 0} />}
      <div role="status">
        {making.value !== null && <p class="panels-hint">{waiting(reading)}</p>}
        {told.value?.session === reading.id && told.value.lines.map((line) => <p key={line}>{line}</p>)}
      </div>
    </Section>
  );
}

/** While a file is made: what it waits for. */
function waiting(reading: Reading): string {
  const first = firstAnswers(reading);
  return first > 0 ? t("panels.waits-refined", { count: first }) : t("panels.making");
}

function nameOf(reading: Reading, object: number): string {
  return spoken(reading.objects.value.find((one) => one.id === object)?.name ?? "");
}

/** What a file would lack, or have too much of. */
function Caveats({ reading }: { reading: Reading }) {
  const running = reading.jobs.value.some((job) => job.object !== null && !hasEnded(job));
  const hidden = reading.objects.value.filter((one) => !one.visible && reading.masks.slices(one.id).length > 0).length;
  useEffect(() => followOverlaps(reading), [reading]);
  const empty = reading.objects.value.filter((one) => reading.masks.slices(one.id).length === 0).length;
  const lines = [
    reading.pending.value > 0 ? t("panels.caveat-pending", { count: reading.pending.value }) : null,
    running ? t("panels.caveat-running") : null,
    hidden > 0 ? t("panels.caveat-hidden", { count: hidden }) : null,
    empty > 0 && empty < reading.objects.value.length ? t("panels.caveat-empty", { count: empty }) : null,
    ...overlaps.value.map(({ first, second, voxels }) =>
      t("panels.caveat-overlap", {
        first: nameOf(reading, first),
        second: nameOf(reading, second),
        count: number(voxels),
      }),
    ),
    reading.connected.value ? null : t("panels.caveat-offline"),
  ].filter((line) => line !== null);
  return (
    <>
      {lines.map((line) => (
        <p key={line} class="panels-caveat">
          {line}
        </p>
      ))}
    </>
  );
}

function notRefined(count: number): string[] {
  return count > 0 ? [t("panels.saved-first", { count })] : [];
}

async function take(reading: Reading, format: Format): Promise<void> {
  await makes(format, async () => {
    // what is on screen is in the file
    await reading.settled();
    const called = untracked(() => calledNow(reading));
    const file = await exportLabels(reading.id, format);
    save(file);
    if (format !== "csv") takenHome.value = { session: reading.id, revision: file.revision, called };
    told.value = { session: reading.id, lines: [t("panels.saved", { name: file.name }), ...notRefined(file.first)] };
  });
}

async function makes(what: Format | "send", work: () => Promise<void>): Promise<void> {
  told.value = null;
  making.value = what;
  await tried(work());
  making.value = null;
}

/** Whether a PACS took it, and what it said. */
export function sentTexts(sent: SentInfo, server: string): string[] {
  const head =
    sent.stored > 0 ? t("panels.sent", { server }) : t("panels.not-sent", { server, reason: sent.failures[0] ?? "" });
  return [head.trim(), ...sent.failures.slice(sent.stored > 0 ? 0 : 1), ...sent.notes];
}

function Send({ reading, possible }: { reading: Reading; possible: boolean }) {
  const [servers, setServers] = useState<readonly string[]>([]);
  const [server, setServer] = useState("");
  const [format, setFormat] = useState<"seg" | "rtstruct">("seg");
  useEffect(() => {
    const ending = new AbortController();
    pacsServers(ending.signal).then(
      (found) => {
        setServers(found);
        setServer(found[0] ?? "");
      },
      // a server that cannot be asked has no PACS to send to
      () => setServers([]),
    );
    return () => ending.abort();
  }, []);
  if (servers.length === 0) return null;

  const send = () =>
    void makes("send", async () => {
      await reading.settled();
      const called = untracked(() => calledNow(reading));
      const sent = await sendToPacs(reading.id, server, format);
      if (sent.stored > 0) takenHome.value = { session: reading.id, revision: sent.revision, called };
      told.value = { session: reading.id, lines: sentTexts(sent, server) };
    });

  return (
    <fieldset class="panels-block" disabled={!possible || making.value !== null}>
      <legend>{t("panels.send")}</legend>
      <div class="panels-pair">
        <select
          class="input"
          aria-label={t("panels.server")}
          value={server}
          onChange={(event) => setServer(event.currentTarget.value)}
        >
          {servers.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <select
          class="input"
          aria-label={t("panels.send-as")}
          value={format}
          onChange={(event) => setFormat(event.currentTarget.value === "rtstruct" ? "rtstruct" : "seg")}
        >
          <option value="seg">SEG</option>
          <option value="rtstruct">RTSTRUCT</option>
        </select>
        <button type="button" class="button-quiet" onClick={send}>
          {t("panels.send-now")}
        </button>
      </div>
    </fieldset>
  );
}
