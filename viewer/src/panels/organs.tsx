// Organs without a prompt: what would be looked for, how far a search is, and what it has found.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { explain } from "../api/http";
import { organStatistics, organs, save } from "../api/results";
import type { JobInfo, OrganOffer, OrganRow, OrgansInfo } from "../api/types";
import { type Key, t } from "../i18n";
import type { Reading } from "../reading/reading";
import { hasEnded } from "../reading/told";
import { Dialog } from "../shell/dialog";
import { number } from "../shell/format";
import { tried } from "./actions";
import { millilitres, share } from "./format";

/** Whether the dialog is open. */
const open = signal(false);
/** What the server offers now, why it does not say, or null while it is asked. */
const offer = signal<OrgansInfo | string | null>(null);

/** The last search for organs of a reading. */
function lastSearch(reading: Reading): JobInfo | undefined {
  return reading.jobs.value.findLast((job) => job.object === null);
}

export function OrgansPart({ reading }: { reading: Reading }) {
  const job = lastSearch(reading);
  if (!reading.mine && !job?.structures) return null;
  return (
    <>
      {reading.mine && (
        <button type="button" class="button-quiet panels-wide" aria-haspopup="dialog" onClick={show}>
          {t("panels.organs")}
        </button>
      )}
      {job && !hasEnded(job) && <Progress reading={reading} job={job} />}
      <div class="panels-told" role="status">
        {job && hasEnded(job) && (
          <p class={job.state === "failed" ? "panels-hint panels-wrong" : "panels-hint"}>
            {toldOf(job)}{" "}
            {job.structures && (
              <button type="button" class="panels-link" title={t("panels.organs-show-long")} onClick={show}>
                {t("panels.organs-show")}
              </button>
            )}
          </p>
        )}
      </div>
      {open.value && <OrgansDialog reading={reading} job={job} />}
    </>
  );
}

function show(): void {
  open.value = true;
}

function toldOf(job: JobInfo): string {
  const { done, total, detail, structures } = job;
  switch (job.state) {
    case "queued":
      return t("panels.organs-queued");
    case "running":
      return total === null ? t("panels.organs-queued") : t("panels.organs-running", { done, total });
    case "done": {
      const looked = (structures ?? []).filter((one) => one.outcome !== "kept");
      const found = looked.filter((one) => one.outcome === "found").length;
      return t("panels.organs-done", { found, count: looked.length });
    }
    case "stopped":
      return t("panels.organs-stopped");
    case "failed":
      return t("panels.organs-failed", { detail: detail ?? "" }).trim();
  }
}

function Progress({ reading, job }: { reading: Reading; job: JobInfo }) {
  return (
    <div class="panels-job">
      <p class="panels-line">
        <span class="panels-grow">{toldOf(job)}</span>
        {reading.mine && (
          <button
            type="button"
            class="button-quiet"
            aria-label={t("panels.organs-stop")}
            onClick={() => void tried(reading.stop(job.id))}
          >
            {t("panels.stop")}
          </button>
        )}
      </p>
      <progress
        aria-label={t("panels.organs-progress")}
        max={job.total ?? 1}
        {...(job.total === null ? {} : { value: Math.min(job.done, job.total) })}
      />
    </div>
  );
}

function OrgansDialog({ reading, job }: { reading: Reading; job: JobInfo | undefined }) {
  const running = job !== undefined && !hasEnded(job);
  const revision = reading.masks.version.value;
  useEffect(() => {
    if (running) offer.value = null;
    // what has a mask is not looked for: another one may have come
    if (running || !reading.mine) return;
    const ending = new AbortController();
    organs(reading.id, ending.signal).then(
      (told) => {
        offer.value = told;
      },
      (error: unknown) => {
        if (!ending.signal.aborted) offer.value = explain(error);
      },
    );
    return () => ending.abort();
  }, [reading, running, revision]);
  useEffect(
    () => () => {
      offer.value = null;
      open.value = false;
    },
    [reading],
  );
  const inside = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // the button that was pressed is gone, and the focus with it
    if (document.activeElement !== document.body) return;
    (inside.current?.querySelector("button") ?? inside.current)?.focus();
  }, [running]);
  const close = () => {
    open.value = false;
  };
  return (
    <Dialog title={t("panels.organs-title")} onClose={close} wide>
      <div ref={inside} class="panels-organs" tabIndex={-1}>
        {running ? (
          <Progress reading={reading} job={job} />
        ) : (
          job?.structures && <Results job={job} reading={reading} />
        )}
        {!running && reading.mine && <Offer reading={reading} again={job?.structures != null} />}
      </div>
    </Dialog>
  );
}

function Offer({ reading, again }: { reading: Reading; again: boolean }) {
  const told = offer.value;
  if (told === null) return <p class="panels-hint">{t("panels.organs-asking")}</p>;
  if (typeof told === "string") return <p class="panels-wrong">{told}</p>;
  const count = told.structures.filter((one) => one.object === null).length;
  if (again && count === 0) return null;
  return (
    <>
      <p>{modalityOf(told)}</p>
      {told.lack !== null && (
        <p class="panels-caveat">{t(`panels.organs-lack-${told.lack.replace(" ", "-")}` as Key)}</p>
      )}
      {told.structures.length > 0 && (
        <Tested
          caption={t("panels.organs-offer")}
          rows={told.structures}
          last={t("panels.organs-now")}
          said={(one) => t(one.object === null ? "panels.organs-looked-for" : "panels.organs-kept")}
        />
      )}
      {told.structures.length > 0 && count === 0 && <p class="panels-caveat">{t("panels.organs-all-drawn")}</p>}
      <Elsewhere rows={told.structures.filter((one) => one.object === null)} />
      {count > 0 && (
        <div class="shell-dialog-actions">
          <button type="button" class="button" onClick={() => void tried(reading.findOrgans())}>
            {again ? t("panels.organs-again") : t("panels.organs-start", { count })}
          </button>
        </div>
      )}
    </>
  );
}

function modalityOf({ modality, modality_by: by }: OrgansInfo): string {
  if (modality === null || by === "nothing") return t("panels.organs-unknown");
  return t("panels.organs-modality", { modality, how: t(`panels.organs-by-${by.replaceAll(" ", "-")}` as Key) });
}

function Results({ job, reading }: { job: JobInfo; reading: Reading }) {
  const rows = job.structures ?? [];
  const found = rows.filter((one) => one.outcome === "found");
  const where = found.filter((one) => one.tested_scans_without > 0).map((one) => one.structure);
  const said = ({ outcome, ml, voxels }: OrganRow) => {
    if (outcome !== "found") return t(`panels.organs-${outcome}`);
    return ml === null
      ? t("panels.pixels", { count: number(voxels ?? 0) })
      : t("panels.ml", { volume: millilitres(ml) });
  };
  return (
    <>
      <p role="status">{toldOf(job)}</p>
      <Tested caption={t("panels.organs-results")} rows={rows} last={t("panels.volume-of")} said={said} />
      {where.length > 0 && <p>{t("panels.organs-body", { names: where.join(", ") })}</p>}
      <Elsewhere rows={found} />
      {found.length > 0 && <p class="panels-hint">{t("panels.organs-undo")}</p>}
      {rows.some((one) => one.outcome !== "kept") && (
        <div class="shell-dialog-actions">
          <button type="button" class="button-quiet" onClick={() => void tried(keep(reading, job))}>
            {t("panels.organs-csv")}
          </button>
        </div>
      )}
    </>
  );
}

async function keep(reading: Reading, job: JobInfo): Promise<void> {
  save(await organStatistics(reading.id, job.id));
}

/** What may be drawn where it is not. */
function Elsewhere({ rows }: { rows: readonly (OrganOffer | OrganRow)[] }) {
  const names = rows.filter((one) => one.tested_scans_without === 0).map((one) => one.structure);
  return names.length > 0 ? (
    <p class="panels-caveat">{t("panels.organs-elsewhere", { names: names.join(", ") })}</p>
  ) : null;
}

interface TestedProperties<Row> {
  caption: string;
  rows: readonly Row[];
  /** Title of the last column, and what stands in it. */
  last: string;
  said: (row: Row) => string;
}

function Tested<Row extends OrganOffer | OrganRow>({ caption, rows, last, said }: TestedProperties<Row>) {
  return (
    <div class="panels-organs-scroll">
      <table class="panels-table">
        <caption class="aloud">{caption}</caption>
        <thead>
          <tr>
            <th scope="col">{t("panels.structure")}</th>
            <th scope="col">{last}</th>
            <th scope="col">{t("panels.organs-head")}</th>
            <th scope="col">{t("panels.organs-tested")}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((one) => (
            <tr key={one.structure}>
              <th scope="row">{one.structure}</th>
              <td>{said(one)}</td>
              <td>{one.head}</td>
              <td>
                {t("panels.organs-tested-on", {
                  patients: one.tested_on_patients ?? "–",
                  dice: share(one.tested_dice),
                })}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
