{{- define "isthmus.network" -}}
{{ default .Values.cluster .Values.network }}
{{- end }}
{{- define "isthmus.labels" -}}
app.kubernetes.io/managed-by: isthmus
app.kubernetes.io/part-of: isthmus
{{- end }}
