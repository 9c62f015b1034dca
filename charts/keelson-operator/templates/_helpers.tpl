{{- define "keelson-operator.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "keelson-operator.serviceAccount" -}}
{{- default (include "keelson-operator.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "keelson-operator.selector" -}}
app.kubernetes.io/name: keelson-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "keelson-operator.labels" -}}
{{ include "keelson-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "keelson-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "keelson-operator.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
