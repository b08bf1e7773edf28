{{- define "hexgrid.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "hexgrid.selector" -}}
app.kubernetes.io/name: hexgrid
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" | quote }}
{{- end -}}

{{- define "hexgrid.labels" -}}
{{ include "hexgrid.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "hexgrid.secret" -}}
{{- .Values.apiKeys.existingSecret | default (include "hexgrid.name" .) -}}
{{- end -}}
