{{/* What the release is called, and what its objects are found by. */}}
{{- define "mixer.name" -}}
{{- if contains "mixer" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-mixer{{ end -}}
{{- end }}

{{- define "mixer.selector" -}}
app.kubernetes.io/name: mixer
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mixer.labels" -}}
{{ include "mixer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Whether there may be more than one pod. */}}
{{- define "mixer.replicated" -}}
{{- if or (and .Values.autoscaling.enabled (gt (int .Values.autoscaling.maxReplicas) 1)) (and (not .Values.autoscaling.enabled) (gt (int .Values.replicas) 1)) }}yes{{ end -}}
{{- end }}

{{/* mixer.yaml: what the chart knows, and over it .Values.config. */}}
{{- define "mixer.settings" -}}
{{- $server := dict "listeners" (list (dict "address" "0.0.0.0:9091")) "admin" "0.0.0.0:15014" -}}
{{- with .Values.adminToken }}
{{- if .secret }}{{ $_ := set $server "admin_token" (dict "file" (printf "/secrets/%s/%s" .secret .key)) }}{{ end }}
{{- end }}
{{- with .Values.tls }}
{{- if .secret }}
{{- $folder := printf "/secrets/%s" .secret }}
{{- $tls := dict "certificate" (printf "%s/tls.crt" $folder) "key" (printf "%s/tls.key" $folder) "client_ca" (printf "%s/ca.crt" $folder) }}
{{- if .allow }}{{ $_ := set $tls "allow" .allow }}{{ end }}
{{- if .services }}{{ $_ := set $tls "services" .services }}{{ end }}
{{- $_ := set $server "tls" $tls }}
{{- end }}
{{- end }}
{{- $settings := dict "server" $server }}
{{- if .Values.policies }}{{ $_ := set $settings "policy" (dict "bundles" (list "policies")) }}{{ end }}
{{- if .Values.limits }}{{ $_ := set $settings "rate_limit" (dict "config" (list "limits")) }}{{ end }}
{{- if and .Values.spool.enabled (dig "telemetry" "clickhouse" "" .Values.config) }}
{{- /* Above its size the volume costs the pod: three tables of each worker, and room for fetched bundles, fit in. */ -}}
{{- $size := .Values.spool.size }}
{{- $mebibytes := mul (regexFind "^[0-9]+" $size | int64) (get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[A-Z]i$" $size)) }}
{{- $share := div $mebibytes (mul 4 (dig "server" "workers" 1 .Values.config)) }}
{{- $spool := dict "directory" "/var/lib/mixer/spool" "bytes" (printf "%dMiB" $share) }}
{{- $_ := set $settings "telemetry" (dict "spool" $spool) }}
{{- end }}
{{- mustMergeOverwrite $settings (deepCopy .Values.config) | toYaml }}
{{- end }}

{{/* What would go wrong quietly is refused. */}}
{{- define "mixer.refuse" -}}
{{- $settings := include "mixer.settings" . | fromYaml }}
{{- $limits := dig "rate_limit" (dict) $settings }}
{{- $counts := or $limits.config $limits.quotas }}
{{- $shared := $limits.store | default "memory://" | hasPrefix "memory://" | not }}
{{- if and $counts (not $shared) (include "mixer.replicated" .) (not .Values.limitsPerReplica) }}
{{- fail "limits would be counted in each replica by itself. Name a Redis or Valkey in config.rate_limit.store, or set limitsPerReplica: true" }}
{{- end }}
{{- if and (dig "telemetry" "clickhouse" "url" "" $settings | hasPrefix "chdb:") (include "mixer.replicated" .) }}
{{- fail "rows would be in a database of each replica. Name a ClickHouse server in config.telemetry.clickhouse.url, or set replicas: 1" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas is above maxReplicas" }}
{{- end }}
{{- end }}
