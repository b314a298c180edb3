#!/bin/sh
# io.fabric8:kubernetes-client 8.0.0: a kubeconfig whose client key is an EC key in PKCS#8 ("BEGIN PRIVATE KEY", what openssl genpkey, rcgen, cert-manager and step write) ends
# in KubernetesClientException, caused by "Invalid DER: object is not integer": the key is taken for an RSA key in PKCS#1, without a word of which key or file. An RSA key in the same
# PKCS#8 form is read. kubectl and the clients of Go, Python, JavaScript and Rust read both. Seen 2026-11: RSA: a client is built; EC: the exception, before anything is sent.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir -p src/main/java
cat > pom.xml <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>com.example</groupId>
  <artifactId>key</artifactId>
  <version>1</version>
  <properties>
    <maven.compiler.source>17</maven.compiler.source>
    <maven.compiler.target>17</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency><groupId>io.fabric8</groupId><artifactId>kubernetes-client</artifactId><version>8.0.0</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>2.0.17</version></dependency>
  </dependencies>
  <build>
    <plugins>
      <plugin>
        <groupId>org.apache.maven.plugins</groupId>
        <artifactId>maven-dependency-plugin</artifactId>
        <version>3.8.1</version>
        <executions><execution><phase>package</phase><goals><goal>copy-dependencies</goal></goals></execution></executions>
      </plugin>
    </plugins>
  </build>
</project>
XML
cat > src/main/java/Key.java <<'JAVA'
import io.fabric8.kubernetes.client.Config;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import java.io.File;

public class Key {
  public static void main(String[] args) {
    try (var client = new KubernetesClientBuilder().withConfig(Config.fromKubeconfig(new File(args[0]))).build()) {
      System.out.println("a client is built");
    } catch (Exception error) {
      Throwable cause = error;
      while (cause.getCause() != null) {
        cause = cause.getCause();
      }
      System.out.println(error.getClass().getSimpleName() + ": " + cause.getMessage());
    }
  }
}
JAVA
mvn --quiet --batch-mode package
of() {
  openssl req -x509 -key "$1.key" -subj /CN=example -days 1 -out "$1.crt"
  cat > "$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {client-certificate: $dir/$1.crt, client-key: $dir/$1.key}}]
YAML
  head -n 1 "$1.key"
  java -cp 'target/classes:target/dependency/*' Key "$1.kubeconfig"
}
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key 2>/dev/null
openssl genpkey -algorithm RSA -out rsa.key 2>/dev/null
rsa=$(of rsa)
ec=$(of ec)
echo "RSA: $rsa"
echo "EC: $ec"
case $rsa in *"BEGIN PRIVATE KEY"*"a client is built"*) ;; *) echo "an RSA key is no longer read" >&2; exit 1 ;; esac
case $ec in *"BEGIN PRIVATE KEY"*"KubernetesClientException: Invalid DER: object is not integer"*) ;; *) echo "changed: see above" >&2; exit 1 ;; esac
