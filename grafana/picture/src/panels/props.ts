import type { DataFrame, FieldConfigSource, TimeRange } from '@grafana/data';

import type { AnnotationEvent, PanelModel } from '../document';

/** What each kind of panel is drawn from. */
export interface PanelProps {
  panel: PanelModel;
  fieldConfig: FieldConfigSource;
  frames: DataFrame[];
  timeRange: TimeRange;
  timeZone: string;
  annotations: AnnotationEvent[];
  width: number;
  height: number;
}
