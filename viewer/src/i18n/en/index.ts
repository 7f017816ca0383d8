import { annotate } from "./annotate";
import { api } from "./api";
import { cases } from "./cases";
import { panels } from "./panels";
import { shell } from "./shell";
import { tools } from "./tools";
import { view } from "./view";

export const en = { ...shell, ...cases, ...view, ...tools, ...panels, ...api, ...annotate };
