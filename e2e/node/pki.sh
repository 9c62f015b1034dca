# Sourced by up.sh: one authority for everything, and kubeconfigs.

pki=$run/pki

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$1" 2>/dev/null; }

authority() {
    mkdir -p "$pki"
    key "$pki/ca.key"
    openssl req -x509 -new -key "$pki/ca.key" -out "$pki/ca.crt" -days 365 -subj /CN=keelson-node
    key "$pki/sa.key"
    openssl pkey -in "$pki/sa.key" -pubout -out "$pki/sa.pub"
}

# issue NAME SUBJECT ALT-NAMES
issue() {
    key "$pki/$1.key"
    openssl req -new -key "$pki/$1.key" -subj "$2" |
        openssl x509 -req -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 365 -out "$pki/$1.crt" \
            -extfile <(echo "subjectAltName=$3") 2>/dev/null
}

# user NAME FILE: a kubeconfig that needs no other file.
user() {
    cat >"$2" <<Y
apiVersion: v1
kind: Config
clusters:
- name: keelson
  cluster: {server: "https://$(node_ip 1):6443", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$pki/$1.crt"), client-key-data: $(base64 -w0 "$pki/$1.key")}
contexts:
- name: keelson
  context: {cluster: keelson, user: $1}
current-context: keelson
Y
    chmod 600 "$2"
}
