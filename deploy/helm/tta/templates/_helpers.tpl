{{- define "tta.labels" -}}
app.kubernetes.io/name: tta
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Of one component: (dict "root" $ "component" "worker-testing") */ -}}
{{- define "tta.selector" -}}
app.kubernetes.io/name: tta
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "tta.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ index $image .name }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end }}

{{- define "tta.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tta.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "tta.toBroker" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
  {{- with .Values.networkPolicy.dnsTo }}
  to: {{ toJson . }}
  {{- end }}
- ports:
    {{- range .Values.networkPolicy.brokerPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .Values.networkPolicy.brokerTo }}
  to: {{ toJson . }}
  {{- end }}
{{- end }}

{{- /* Secrets are files, never an environment. Of one container: (dict "root" $ "own" (dict VOLUME (list SECRET KEY...))) */ -}}
{{- define "tta.secrets" -}}
{{- $values := .root.Values -}}
{{- toJson (merge (dict "settings" (concat (list $values.secretName) $values.secretKeys)) .own) -}}
{{- end }}

{{- define "tta.secretEnv" -}}
{{- range $volume, $secret := fromJson (include "tta.secrets" .) }}
{{- range rest $secret }}
- {name: {{ . }}_FILE, value: /run/secrets/{{ $volume }}/{{ . }}}
{{- end }}
{{- end }}
{{- if .root.Values.tlsSecretName }}
- {name: TTA_TLS_CA_FILE, value: /run/secrets/tls/ca.crt}
- {name: TTA_TLS_CERT_FILE, value: /run/secrets/tls/tls.crt}
- {name: TTA_TLS_KEY_FILE, value: /run/secrets/tls/tls.key}
{{- end }}
{{- end }}

{{- define "tta.secretMounts" -}}
{{- range $volume, $secret := fromJson (include "tta.secrets" .) }}
- {name: {{ $volume }}, mountPath: /run/secrets/{{ $volume }}, readOnly: true}
{{- end }}
{{- if .root.Values.tlsSecretName }}
- {name: tls, mountPath: /run/secrets/tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "tta.secretVolumes" -}}
{{- range $volume, $secret := fromJson (include "tta.secrets" .) }}
- name: {{ $volume }}
  secret: {secretName: {{ first $secret }}, defaultMode: 0440}
{{- end }}
{{- with .root.Values.tlsSecretName }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}
