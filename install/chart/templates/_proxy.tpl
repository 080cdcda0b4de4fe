{{- /* What the pods of the east-west gateway and of the entry gateway have in common. */ -}}
{{- define "isthmus.proxyImage" -}}
image: {{ .Values.image.hub }}/isthmus-proxy:{{ .Values.image.tag }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}
{{- define "isthmus.gatewayEnv" -}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
- {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: POD_IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
- {name: SERVICE_ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: ISTHMUS_CLUSTER, value: {{ .Values.cluster | quote }}}
- {name: ISTHMUS_NETWORK, value: {{ include "isthmus.network" . | quote }}}
- {name: ISTHMUS_TRUST_DOMAIN, value: {{ .Values.trustDomain | quote }}}
- {name: ISTHMUS_DISCOVERY, value: "isthmusd.isthmus-system.svc:15012"}
- {name: ISTHMUS_DISCOVERY_CLUSTER, value: {{ .Values.cluster | quote }}}
- {name: ISTHMUS_DATAPLANE, value: {{ .Values.proxy.dataplane | quote }}}
{{- end }}
{{- /* The proxy's container. Takes root, args, ports (those beside health) and resources. */ -}}
{{- define "isthmus.gatewayContainer" -}}
- name: isthmus-proxy
  {{- include "isthmus.proxyImage" .root | nindent 2 }}
  args: {{- toYaml .args | nindent 4 }}
  env: {{- include "isthmus.gatewayEnv" .root | nindent 4 }}
  ports:
    {{- with .ports }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    - {name: health, containerPort: 15021}
  startupProbe:
    httpGet: {path: /readyz, port: 15021}
    periodSeconds: 1
    failureThreshold: 600
  readinessProbe:
    httpGet: {path: /readyz, port: 15021}
    periodSeconds: 1
    failureThreshold: 3
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  resources: {{- toYaml .resources | nindent 4 }}
  volumeMounts:
    - {name: isthmus-token, mountPath: /var/run/secrets/isthmus, readOnly: true}
    - {name: isthmus-root, mountPath: /var/run/isthmus/root, readOnly: true}
    - {name: isthmus-data, mountPath: /var/run/isthmus/data}
{{- end }}
{{- define "isthmus.gatewayVolumes" -}}
- name: isthmus-token
  projected:
    sources:
      - serviceAccountToken: {audience: {{ printf "isthmus.dev/%s" .Values.cluster }}, expirationSeconds: 3600, path: token}
- name: isthmus-root
  configMap: {name: isthmus-ca-root}
- name: isthmus-data
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end }}
