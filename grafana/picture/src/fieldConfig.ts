import {
  applyFieldOverrides,
  type DataFrame,
  type FieldColor,
  type FieldConfigPropertyItem,
  FieldConfigOptionsRegistry,
  type FieldConfigSource,
  FieldType,
  type GrafanaTheme2,
  identityOverrideProcessor,
  type ThresholdsConfig,
  ThresholdsMode,
} from '@grafana/data';

const STANDARD_PROPERTIES = ['unit', 'min', 'max', 'decimals', 'displayName', 'color', 'noValue', 'mappings', 'fieldMinMax', 'links'];

/** Field options of a kind of panel for what the dashboard leaves open. */
export interface KindDefaults {
  color: FieldColor;
  custom: Record<string, unknown>;
}

export const PLAIN_DEFAULTS: KindDefaults = { color: { mode: 'thresholds' }, custom: {} };

const GRAPH_CUSTOM = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  lineWidth: 1,
  fillOpacity: 0,
  gradientMode: 'none',
  pointSize: 5,
  showPoints: 'auto',
  spanNulls: false,
  axisPlacement: 'auto',
  stacking: { mode: 'none', group: 'A' },
  scaleDistribution: { type: 'linear' },
  thresholdsStyle: { mode: 'off' },
};

export const GRAPH_DEFAULTS: KindDefaults = { color: { mode: 'palette-classic' }, custom: GRAPH_CUSTOM };

/** Frames with display processors, ranges, colors and overrides, as a panel plugin receives them. */
export function configuredFrames(
  data: DataFrame[],
  source: FieldConfigSource,
  kind: KindDefaults,
  theme: GrafanaTheme2,
  timeZone: string
): DataFrame[] {
  const fieldConfig = withDefaults(source, kind);
  return applyFieldOverrides({
    data,
    fieldConfig,
    fieldConfigRegistry: registryFor(fieldConfig),
    replaceVariables: (value) => value,
    theme,
    timeZone,
  });
}

export function withDefaults(source: FieldConfigSource, kind: KindDefaults): FieldConfigSource {
  const defaults = { ...source?.defaults };
  defaults.color ??= kind.color;
  defaults.thresholds = withLowestStep(defaults.thresholds);
  defaults.custom = { ...kind.custom, ...defaults.custom };
  return { defaults, overrides: source?.overrides ?? [] };
}

/** JSON has no -Infinity: dashboard files say null for the step that everything else stands on. */
function withLowestStep(thresholds: ThresholdsConfig | undefined): ThresholdsConfig {
  const { mode, steps } = thresholds ?? { mode: ThresholdsMode.Absolute, steps: [{ value: -Infinity, color: 'green' }] };
  return { mode, steps: steps.map((step) => ({ ...step, value: step.value ?? -Infinity })) };
}

/** The server registers each panel's options; here every custom option that this panel mentions is taken as it is. */
function registryFor(fieldConfig: FieldConfigSource): FieldConfigOptionsRegistry {
  const overridden = fieldConfig.overrides.flatMap((rule) => rule.properties.map((property) => property.id));
  const custom = new Set([
    ...Object.keys(fieldConfig.defaults.custom ?? {}),
    ...overridden.filter((id) => id.startsWith('custom.')).map((id) => id.slice('custom.'.length)),
  ]);
  const items = [
    ...STANDARD_PROPERTIES.map((name) => property(name, name, false)),
    { ...property('thresholds', 'thresholds', false), process: withLowestStep as any },
    ...[...custom].map((path) => property(`custom.${path}`, path, true)),
  ];
  return new FieldConfigOptionsRegistry(() => items);
}

function property(id: string, path: string, isCustom: boolean): FieldConfigPropertyItem {
  return {
    id,
    path,
    name: id,
    isCustom,
    editor: () => null as any,
    override: () => null as any,
    process: identityOverrideProcessor,
    shouldApply: (field) => isCustom || field.type !== FieldType.time || path !== 'unit',
  };
}
