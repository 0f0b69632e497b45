import type { DataTransformerConfig, FieldConfigSource } from '@grafana/data';

/** What draw.py writes to data.json: one dashboard and everything its queries answered. */
export interface PictureDocument {
  dashboard: DashboardModel;
  range: { from_ms: number; to_ms: number };
  variables: Array<{ label: string; value: string }>;
  annotations: AnnotationEvent[];
  /** by panel id */
  results: Record<string, TargetResult[]>;
}

export interface DashboardModel {
  title: string;
  timezone?: string;
  panels: PanelModel[];
}

export interface GridPos {
  x: number;
  y: number;
  w: number;
  h: number;
}

export interface PanelModel {
  id: number;
  type: string;
  title?: string;
  description?: string;
  transparent?: boolean;
  collapsed?: boolean;
  panels?: PanelModel[];
  gridPos: GridPos;
  options?: Record<string, any>;
  fieldConfig?: FieldConfigSource<any>;
  transformations?: DataTransformerConfig[];
}

export interface TargetResult {
  refId: string;
  format: 'time_series' | 'table';
  legend: string;
  expr: string;
  step_ms: number;
  series: Array<{ labels: Record<string, string>; points: Array<[number, string]> }>;
}

export interface AnnotationEvent {
  from_ms: number;
  to_ms: number;
  color: string;
}
