{{- /* Fills .Values with what the profile says, and the profile "default" after it, wherever no value is given: so a value comes
before the profile, and the profile before the default. Each template begins with it, since Helm promises no order of templates. */ -}}
{{- define "isthmus.profile" -}}
{{- $values := .Values }}
{{- $name := default "default" .Values.profile }}
{{- $chosen := .Files.Get (printf "profiles/%s.yaml" $name) }}
{{- if not $chosen }}
{{- $known := list }}
{{- range $path, $_ := .Files.Glob "profiles/*.yaml" }}{{ $known = append $known (base $path | trimSuffix ".yaml") }}{{ end }}
{{- fail (printf "profile: there is no %q; there are %s" $name (sortAlpha $known | join ", ")) }}
{{- end }}
{{- range $layer := list $chosen (.Files.Get "profiles/default.yaml") }}
{{- range $section, $content := fromYaml $layer }}
{{- if kindIs "map" $content }}
{{- if not (kindIs "map" (get $values $section)) }}{{ $_ := set $values $section dict }}{{ end }}
{{- $into := get $values $section }}
{{- range $key, $value := $content }}
{{- if or (not (hasKey $into $key)) (kindIs "invalid" (get $into $key)) }}{{ $_ := set $into $key $value }}{{ end }}
{{- end }}
{{- else if not (get $values $section) }}
{{- $_ := set $values $section $content }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.revision }}
{{- /* A further revision is a control plane and its webhook; all else is the first one's. */ -}}
{{- if not .Values.controlPlane.enabled }}{{ fail "revision: a cluster without a control plane has none" }}{{ end }}
{{- range $section := list "gateway" "entry" "clusterProperty" }}{{ $_ := set (get $values $section) "enabled" false }}{{ end }}
{{- $_ := set .Values.imports "guard" false }}
{{- $_ := set .Values "mtls" "PERMISSIVE" }}
{{- $_ := set .Values "ca" dict }}
{{- end }}
{{- end }}
