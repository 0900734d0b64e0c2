{{/* Name of every object: the release's, with the chart's name where that is not in it. */}}
{{- define "user-service.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that choose the pods of this release. */}}
{{- define "user-service.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "user-service.labels" -}}
{{ include "user-service.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Image of both containers. */}}
{{- define "user-service.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The file settings for secrets of both containers; `.urlKey` is that of the database's URL. */}}
{{- define "user-service.env" -}}
- name: USER_SERVICE__DATABASE__URL_FILE
  value: /run/secrets/user-service/{{ .urlKey }}
- name: USER_SERVICE__SECRETS__KEYS_FILE
  value: /run/secrets/user-service/keys
{{- end -}}

{{/* Security of both containers: the pod security standard `restricted`, and a read-only file system. */}}
{{- define "user-service.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Spreads the pods of one version over a kind of place, `.key`. */}}
{{- define "user-service.spread" -}}
- topologyKey: {{ .key }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "user-service.selector" .root | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end -}}
