import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.ConfigMapBuilder;
import io.fabric8.kubernetes.client.Config;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.KubernetesClientException;
import io.fabric8.kubernetes.client.dsl.ExecWatch;
import io.fabric8.kubernetes.client.informers.ResourceEventHandler;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Uses a cluster by fabric8, on which operators in Java stand, and prints what it saw: what tests/clients/python/use.py prints for Python.
 *
 * <p>usage: java Use KUBECONFIG NAMESPACE PORT
 */
public class Use {
  public static void main(String[] args) throws Exception {
    String namespace = args[1];
    Config config = Config.fromKubeconfig(new File(args[0]));
    config.setNamespace(namespace);
    try (KubernetesClient client = new KubernetesClientBuilder().withConfig(config).build()) {
      say("pods", client.pods().list().getItems().stream().map(pod -> pod.getMetadata().getName()).toList());
      say("secret", new TreeMap<>(client.secrets().withName("db").get().getData()));
      say("missing", client.pods().withName("nobody").get());
      informer(client);
      say("log", client.pods().withName("web").tailingLines(2).getLog());
      say("exec", run(client, null, "sh", "-c", "echo out; echo err >&2; exit 3"));
      say("typed", run(client, "typed by java\n", "head", "-n", "1"));
      forward(client, Integer.parseInt(args[2]));
      try {
        client.pods().withName("web").edit(pod -> {
          pod.getSpec().getContainers().get(0).setImage("");
          return pod;
        });
      } catch (KubernetesClientException error) {
        say("refused", error.getCode(), error.getStatus().getReason());
      }
    }
  }

  private static void say(String what, Object... values) {
    System.out.println(what + " " + List.of(java.util.Arrays.stream(values).map(String::valueOf).toArray()));
  }

  /** An informer lists, watches over WebSocket, and tells of each change once. */
  private static void informer(KubernetesClient client) throws Exception {
    List<String> told = new CopyOnWriteArrayList<>();
    CountDownLatch added = new CountDownLatch(1);
    CountDownLatch updated = new CountDownLatch(1);
    CountDownLatch deleted = new CountDownLatch(1);
    var informer = client.configMaps().withLabel("of", "java").inform(new ResourceEventHandler<ConfigMap>() {
      @Override
      public void onAdd(ConfigMap map) {
        told.add("add " + map.getData());
        added.countDown();
      }

      @Override
      public void onUpdate(ConfigMap old, ConfigMap map) {
        told.add("update " + map.getData());
        updated.countDown();
      }

      @Override
      public void onDelete(ConfigMap map, boolean unknown) {
        told.add("delete " + map.getData());
        deleted.countDown();
      }
    });
    client.resource(new ConfigMapBuilder().withNewMetadata().withName("of-java").addToLabels("of", "java").endMetadata().withData(Map.of("key", "before")).build()).create();
    say("added", added.await(30, TimeUnit.SECONDS));
    client.configMaps().withName("of-java").edit(map -> new ConfigMapBuilder(map).addToData("key", "after").build());
    say("updated", updated.await(30, TimeUnit.SECONDS));
    client.configMaps().withName("of-java").delete();
    say("deleted", deleted.await(30, TimeUnit.SECONDS));
    say("informer", told);
    informer.stop();
  }

  private static List<Object> run(KubernetesClient client, String input, String... command) throws Exception {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream err = new ByteArrayOutputStream();
    var pod = client.pods().withName("web");
    ExecWatch ran = input == null
        ? pod.writingOutput(out).writingError(err).exec(command)
        : pod.readingInput(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8))).writingOutput(out).writingError(err).exec(command);
    try (ran) {
      int code = ran.exitCode().get(30, TimeUnit.SECONDS);
      return List.of(out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8), code);
    }
  }

  private static void forward(KubernetesClient client, int port) throws Exception {
    try (var forwarded = client.pods().withName("web").portForward(port);
        Socket socket = new Socket("127.0.0.1", forwarded.getLocalPort())) {
      socket.setSoTimeout(30_000);
      OutputStream there = socket.getOutputStream();
      there.write("there and back".getBytes(StandardCharsets.UTF_8));
      there.flush();
      InputStream back = socket.getInputStream();
      say("port-forward", new String(back.readNBytes(14), StandardCharsets.UTF_8));
    }
  }
}
