// Command protobuf tells what upstream's own code knows of Kubernetes protobuf.
//
//	protobuf schema          prints the table the gateway decodes with: of every registered type its fields, by number, with their JSON names
//	protobuf pairs N SEED    writes N objects, filled by upstream's fuzzers, as protobuf and as the JSON upstream makes of that protobuf
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"log"
	"math/rand"
	"os"
	"reflect"
	"strconv"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	kubernetes "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationv1beta1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1beta1"
	"sigs.k8s.io/randfill"
)

func main() {
	// What JSON makes of these is not what their fields say.
	special[reflect.TypeFor[apiextensionsv1.JSON]()] = "raw"
	special[reflect.TypeFor[apiextensionsv1beta1.JSON]()] = "raw"
	special[reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrBool]()] = "propsorbool"
	special[reflect.TypeFor[apiextensionsv1beta1.JSONSchemaPropsOrBool]()] = "propsorbool"
	special[reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrArray]()] = "propsorarray"
	special[reflect.TypeFor[apiextensionsv1beta1.JSONSchemaPropsOrArray]()] = "propsorarray"
	special[reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrStringArray]()] = "propsorstrings"
	special[reflect.TypeFor[apiextensionsv1beta1.JSONSchemaPropsOrStringArray]()] = "propsorstrings"
	for _, add := range []func(*runtime.Scheme) error{kubernetes.AddToScheme, apiextensionsv1.AddToScheme, apiextensionsv1beta1.AddToScheme,
		apiregistrationv1.AddToScheme, apiregistrationv1beta1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(scheme); err != nil {
			log.Fatal(err)
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	if len(os.Args) == 2 && os.Args[1] == "schema" {
		table(out)
		return
	}
	if len(os.Args) == 4 && os.Args[1] == "pairs" {
		count, err := strconv.Atoi(os.Args[2])
		seed, err2 := strconv.ParseInt(os.Args[3], 10, 64)
		if err == nil && err2 == nil {
			pairs(out, count, seed)
			return
		}
	}
	log.Fatal("usage: protobuf schema | protobuf pairs N SEED")
}

func pairs(out *bufio.Writer, count int, seed int64) {
	source := rand.NewSource(seed)
	codecs := serializer.NewCodecFactory(scheme)
	own := func(serializer.CodecFactory) []interface{} {
		value := func(c randfill.Continue) []byte {
			choices := []string{`{"a":[1,2.5,"x",null,true]}`, `"text"`, `-12`, `null`, `[]`, `1e+300`, `{"b":{"c":"<>&"}}`}
			return []byte(choices[c.Intn(len(choices))])
		}
		return []interface{}{
			func(j *apiextensionsv1.JSON, c randfill.Continue) { j.Raw = value(c) },
			func(j *apiextensionsv1beta1.JSON, c randfill.Continue) { j.Raw = value(c) },
			func(f *metav1.FieldsV1, c randfill.Continue) {
				f.SetRawBytes([]byte(`{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}`))
			},
			func(r *runtime.RawExtension, c randfill.Continue) {
				r.Object, r.Raw = nil, []byte(`{"apiVersion":"unknown/v1","kind":"Something","key":`+string(value(c))+`}`)
			},
			func(d *metav1.Duration, c randfill.Continue) {
				d.Duration = []time.Duration{0, 1, 1500, 90e9, 3600e9, -5e6, 1<<62 + 12345, 999}[c.Intn(8)]
			},
			func(p *apiextensionsv1.JSONSchemaProps, c randfill.Continue) { deep(c, p, &depth) },
			func(p *apiextensionsv1beta1.JSONSchemaProps, c randfill.Continue) { deep(c, p, &depth) },
		}
	}
	filler := fuzzer.FuzzerFor(fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, own), source, codecs)
	binaryForm := protobuf.NewSerializer(scheme, scheme)
	jsonForm := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
	all := kinds()
	for written, tried := 0, 0; written < count; tried++ {
		if tried > 3*count {
			log.Fatalf("%d of %d", written, count)
		}
		gvk := all[tried%len(all)]
		object, err := scheme.New(gvk)
		if err != nil {
			log.Fatal(err)
		}
		depth = 0
		filler.Fill(object)
		object.GetObjectKind().SetGroupVersionKind(gvk)
		var encoded, text bytes.Buffer
		if err := binaryForm.Encode(object, &encoded); err != nil {
			continue
		}
		// JSON is made of what the protobuf says: an empty list is none there.
		decoded, _, err := binaryForm.Decode(encoded.Bytes(), nil, nil)
		if err != nil {
			continue
		}
		if err := jsonForm.Encode(decoded, &text); err != nil {
			continue
		}
		for _, part := range [][]byte{encoded.Bytes(), text.Bytes()} {
			binary.Write(out, binary.BigEndian, uint32(len(part)))
			out.Write(part)
		}
		written++
	}
}

var depth int

// deep fills a schema, and the schemas within it up to a point.
func deep[T any](c randfill.Continue, props *T, depth *int) {
	if *depth > 2 {
		return
	}
	*depth++
	c.FillNoCustom(props)
	*depth--
}
