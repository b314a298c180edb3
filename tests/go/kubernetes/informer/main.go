// Command informer keeps a cache of ConfigMaps with client-go's own informer, as controllers do, and says what is in it.
//
//	informer KUBECONFIG NAMESPACE
//
// On each line it reads it prints its cache as a line of JSON: of each object its name, its version, its labels and its data. Once the cache
// has synced it prints "synced".
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

type shown struct {
	Name    string            `json:"name"`
	Version string            `json:"version"`
	Labels  map[string]string `json:"labels"`
	Data    map[string]string `json:"data"`
}

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	config.QPS, config.Burst = 1000, 1000
	// What most Go controllers ask for.
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client := kubernetes.NewForConfigOrDie(config)
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(os.Args[2]))
	informer := factory.Core().V1().ConfigMaps().Informer()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	factory.Start(ctx.Done())
	syncing, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if !cache.WaitForCacheSync(syncing.Done(), informer.HasSynced) {
		log.Fatal("the cache has not synced in a minute")
	}
	fmt.Println("synced")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		objects := []shown{}
		for _, object := range informer.GetStore().List() {
			m := object.(*corev1.ConfigMap)
			objects = append(objects, shown{m.Name, m.ResourceVersion, m.Labels, m.Data})
		}
		sort.Slice(objects, func(a, b int) bool { return objects[a].Name < objects[b].Name })
		text, err := json.Marshal(objects)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(text))
	}
}
