// A case: its picture, what it is and whose, and what may be done with it.

import { useSignal } from "@preact/signals";
import { taskAbout } from "../annotate/project";
import { thumbnailOf } from "../api/cases";
import type { CaseInfo } from "../api/types";
import { t } from "../i18n";
import { day, dicomDay, gridSize, number, personName } from "../shell/format";
import { Icon, type IconName } from "../shell/icons";
import { hashOf } from "../shell/routing";
import type { Route } from "../state";
import { arrived } from "./uploads";

interface Properties {
  info: CaseInfo;
  mayDelete: boolean;
  mayShare: boolean;
  ask: (what: "share" | "delete") => void;
}

export function CaseCard({ info, mayDelete, mayShare, ask }: Properties) {
  const { name } = info;
  return (
    <li class={arrived.value.has(info.id) ? "cases-card cases-card-new" : "cases-card"}>
      <Thumbnail info={info} />
      <div class="cases-card-text">
        <h3 title={name}>{info.state === "gone" ? name : <a href={hashOf(leadsTo(info.id))}>{name}</a>}</h3>
        <p class="cases-card-who">{whose(info)}</p>
        <p class="cases-card-what">{what(info)}</p>
        <State info={info} />
      </div>
      {(mayShare || mayDelete) && (
        <div class="cases-card-tools">
          {mayShare && <CardButton icon="share" label={t("cases.share.of", { name })} press={() => ask("share")} />}
          {mayDelete && <CardButton icon="trash" label={t("cases.delete.of", { name })} press={() => ask("delete")} />}
        </div>
      )}
    </li>
  );
}

/** To the reader's task, where the case is what it is about. */
function leadsTo(id: string): Route {
  const task = taskAbout(id);
  return task === null ? { page: "case", id } : { page: "task", id: task };
}

function CardButton({ icon, label, press }: { icon: IconName; label: string; press: () => void }) {
  return (
    <button type="button" class="button-icon" aria-label={label} title={label} onClick={press}>
      <Icon name={icon} size={16} />
    </button>
  );
}

function what(info: CaseInfo): string {
  const size = info.shape === null ? t("cases.files", { count: number(info.files) }) : gridSize(info.shape);
  return [info.modality ?? t(`cases.format.${info.format}`), size].join(" · ");
}

/** The patient and the day of the study for those who may know, else when it came. */
function whose({ patient, added }: CaseInfo): string {
  const said = patient === null ? [] : [personName(patient.name) || patient.id, dicomDay(patient.study_date)];
  return said.filter(Boolean).join(" · ") || t("cases.added", { when: day(added) });
}

/** Asked for as it comes on screen. */
function Thumbnail({ info }: { info: CaseInfo }) {
  const missing = useSignal(false);
  const hidden = missing.value || info.state === "broken" || info.state === "gone";
  return (
    <div class="cases-thumbnail" aria-hidden="true">
      {hidden ? (
        <span>{info.modality ?? t(`cases.format.${info.format}`)}</span>
      ) : (
        <img
          src={thumbnailOf(info.id)}
          alt=""
          width={160}
          height={160}
          loading="lazy"
          decoding="async"
          draggable={false}
          onError={() => {
            missing.value = true;
          }}
        />
      )}
    </div>
  );
}

function State({ info }: { info: CaseInfo }) {
  if (info.state === "loading") return <p class="cases-card-what">{t("cases.loading")}</p>;
  if (info.state !== "broken" && info.state !== "gone") return null;
  const problem = info.state === "gone" ? t("cases.gone") : (info.problem ?? t("cases.broken"));
  return (
    <p class="cases-card-bad">
      <Icon name="warning" size={14} />
      <span title={problem}>{problem}</span>
    </p>
  );
}
