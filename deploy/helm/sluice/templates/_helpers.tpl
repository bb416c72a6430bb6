{{- define "sluice.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "sluice.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The configuration: what is written, with the addresses of the ports. */ -}}
{{- define "sluice.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $listen := dict "http" (printf "0.0.0.0:%d" (int .Values.ports.http)) -}}
{{- $_ := set $listen "drainDelay" (printf "%ds" (int .Values.drainDelay)) -}}
{{- $admin := dict "probes" (printf "0.0.0.0:%d" (int .Values.ports.probes)) -}}
{{- if .Values.adminToken -}}
{{- $hosts := list (printf "%s-admin" (include "sluice.name" .)) -}}
{{- $hosts = append $hosts (printf "%s-admin.%s.svc" (include "sluice.name" .) .Release.Namespace) -}}
{{- $_ := set $admin "address" (printf "0.0.0.0:%d" (int .Values.ports.admin)) -}}
{{- $_ := set $admin "token" (printf "${file:/etc/sluice-secrets/%s}" .Values.adminToken) -}}
{{- $_ := set $admin "hosts" (concat $hosts (dig "admin" "hosts" list $config) | uniq) -}}
{{- else -}}
{{- $_ := set $admin "address" (printf "127.0.0.1:%d" (int .Values.ports.admin)) -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite $config (dict "listen" $listen "admin" $admin)) -}}
{{- end -}}

{{- /* Whether the store is one that gateways do not share. */ -}}
{{- define "sluice.alone" -}}
{{- if not (dig "store" "redis" "" .Values.config) -}}true{{- end -}}
{{- end -}}

{{- define "sluice.hasBranches" -}}
{{- if dig "coordinator" "dtm" "branches" "" .Values.config -}}true{{- end -}}
{{- end -}}
