{{- define "isthmus.network" -}}
{{ default .Values.cluster .Values.network }}
{{- end }}
{{- define "isthmus.labels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: isthmus
{{- with .Values.revision }}
isthmus.dev/revision: {{ . }}
{{- end }}
{{- end }}
{{- /* The names of isthmusd and of its webhook's configuration, which each revision has of its own. */ -}}
{{- define "isthmus.isthmusd" -}}
isthmusd{{ with .Values.revision }}-{{ . }}{{ end }}
{{- end }}
{{- define "isthmus.release" -}}
isthmus{{ with .Values.revision }}-{{ . }}{{ end }}
{{- end }}
{{- /* Where there are several of app, each on a node of its own, in a zone of its own, as far as there are any. */ -}}
{{- define "isthmus.spread" -}}
{{- if gt (int .replicas) 1 }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {app: {{ $.app }}}}
    matchLabelKeys: [pod-template-hash] # in an upgrade the old ones do not count
  {{- end }}
{{- end }}
{{- end }}
{{- /* The entry gateway's range, checked as isthmusd does: what a JSON schema cannot say. */ -}}
{{- define "isthmus.entryPorts" -}}
{{- $range := splitList "-" .Values.entry.ports }}
{{- $first := first $range | int }}
{{- $last := last $range | int }}
{{- if or (lt $first 1024) (gt $last 65535) (lt $last $first) }}
{{- fail (printf "entry.ports: %q does not lie within 1024-65535 in ascending order" .Values.entry.ports) }}
{{- end }}
{{- if and (le $first 15444) (ge $last 15444) }}
{{- fail (printf "entry.ports: %q holds port 15444, which is the proxy's own" .Values.entry.ports) }}
{{- end }}
{{- if and (le $first 15099) (ge $last 15000) }}
{{- fail (printf "entry.ports: %q holds ports from 15000 to 15099, which are the proxy's own" .Values.entry.ports) }}
{{- end }}
{{- .Values.entry.ports }}
{{- end }}
