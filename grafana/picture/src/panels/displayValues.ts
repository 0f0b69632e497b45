import { type FieldDisplay, getFieldDisplayValues, type GrafanaTheme2 } from '@grafana/data';

import type { PanelProps } from './props';

const REDUCE_DEFAULTS = { calcs: ['lastNotNull'], values: false, fields: '' };

/** One value per series (or per row), with the text and color that the field config asks for. */
export function displayValues(props: PanelProps, theme: GrafanaTheme2, sparkline: boolean): FieldDisplay[] {
  return getFieldDisplayValues({
    fieldConfig: props.fieldConfig,
    reduceOptions: { ...REDUCE_DEFAULTS, ...props.panel.options?.reduceOptions },
    replaceVariables: (value) => value,
    theme,
    data: props.frames,
    sparkline,
    timeZone: props.timeZone,
  });
}
