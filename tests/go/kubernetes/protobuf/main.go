// Command protobuf tells what upstream's own code knows of Kubernetes protobuf.
//
//	protobuf schema          prints the table the gateway decodes with: of every registered type its fields, by number, with their JSON names
//	protobuf pairs N SEED    writes N objects, filled by upstream's fuzzers, as protobuf and as the JSON upstream makes of that protobuf
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"log"
	"math/rand"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/resource"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
	kubernetes "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationv1beta1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1beta1"
	"sigs.k8s.io/randfill"
)

type marshaler interface{ Marshal() ([]byte, error) }

var scheme = runtime.NewScheme()

func main() {
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

// kinds are all registered types that have protobuf, in order.
func kinds() []schema.GroupVersionKind {
	var all []schema.GroupVersionKind
	for gvk, t := range scheme.AllKnownTypes() {
		if _, ok := reflect.New(t).Interface().(marshaler); ok && gvk.Version != runtime.APIVersionInternal {
			all = append(all, gvk)
		}
	}
	sort.Slice(all, func(a, b int) bool { return all[a].String() < all[b].String() })
	return all
}

// What JSON makes of these is not what their fields say.
var special = map[reflect.Type]string{
	reflect.TypeFor[metav1.Time]():                                       "time",
	reflect.TypeFor[metav1.MicroTime]():                                  "microtime",
	reflect.TypeFor[metav1.Duration]():                                   "duration",
	reflect.TypeFor[resource.Quantity]():                                 "quantity",
	reflect.TypeFor[intstr.IntOrString]():                                "intorstring",
	reflect.TypeFor[runtime.RawExtension]():                              "raw",
	reflect.TypeFor[metav1.FieldsV1]():                                   "raw",
	reflect.TypeFor[apiextensionsv1.JSON]():                              "raw",
	reflect.TypeFor[apiextensionsv1beta1.JSON]():                         "raw",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrBool]():             "propsorbool",
	reflect.TypeFor[apiextensionsv1beta1.JSONSchemaPropsOrBool]():        "propsorbool",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrArray]():            "propsorarray",
	reflect.TypeFor[apiextensionsv1beta1.JSONSchemaPropsOrArray]():       "propsorarray",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrStringArray]():      "propsorstrings",
	reflect.TypeFor[apiextensionsv1beta1.JSONSchemaPropsOrStringArray](): "propsorstrings",
}

type tables struct {
	ids   map[reflect.Type]int
	queue []reflect.Type
}

// message numbers a struct, and sees to it that it is printed.
func (t *tables) message(of reflect.Type) int {
	id, ok := t.ids[of]
	if !ok {
		id = len(t.ids)
		t.ids[of] = id
		t.queue = append(t.queue, of)
	}
	return id
}

// name is how the table spells the type of a value.
func (t *tables) name(of reflect.Type) string {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if name, ok := special[of]; ok {
		if strings.HasPrefix(name, "props") {
			// Its schema is a message of its own.
			field, _ := of.FieldByName("Schema")
			return fmt.Sprintf("%s:%d", name, t.message(field.Type.Elem()))
		}
		return name
	}
	switch of.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.Int32, reflect.Int64, reflect.Int:
		return "int"
	case reflect.Uint32, reflect.Uint64:
		return "uint"
	case reflect.Float64:
		return "double"
	case reflect.String:
		return "string"
	case reflect.Struct:
		return strconv.Itoa(t.message(of))
	case reflect.Slice:
		if of.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		if _, ok := reflect.New(of).Interface().(marshaler); ok && of.Elem().Kind() == reflect.String {
			return "strings" // a message with the strings as its field 1
		}
	}
	log.Fatalf("no name for %v", of)
	return ""
}

func table(out *bufio.Writer) {
	t := &tables{ids: map[reflect.Type]int{}}
	for _, gvk := range kinds() {
		fmt.Fprintf(out, "kind %s %s %d\n", gvk.GroupVersion(), gvk.Kind, t.message(scheme.AllKnownTypes()[gvk]))
	}
	for len(t.queue) > 0 {
		of := t.queue[0]
		t.queue = t.queue[1:]
		fmt.Fprintf(out, "message %d %s.%s\n", t.ids[of], of.PkgPath(), of.Name())
		for i := range of.NumField() {
			t.field(out, of, of.Field(i))
		}
	}
}

// field prints "NUMBER NAME FLAGS TYPE". Flags: p pointer, r repeated, m map, i inline, o omitempty, z omitzero, - none.
func (t *tables) field(out *bufio.Writer, of reflect.Type, field reflect.StructField) {
	tag, ok := field.Tag.Lookup("protobuf")
	if !ok || tag == "-" {
		if field.Name != "TypeMeta" && field.IsExported() && field.Tag.Get("json") != "-" {
			log.Printf("%v.%s has no protobuf", of, field.Name)
		}
		return
	}
	number := strings.Split(tag, ",")[1]
	parts := strings.Split(field.Tag.Get("json"), ",")
	name, flags, kind := parts[0], "", field.Type
	for _, option := range parts[1:] {
		flags += map[string]string{"omitempty": "o", "omitzero": "z", "inline": "i"}[option]
	}
	if field.Anonymous && name == "" && !strings.Contains(flags, "i") {
		flags += "i"
	}
	if name == "" && !strings.Contains(flags, "i") {
		name = field.Name
	}
	if kind.Kind() == reflect.Pointer {
		flags, kind = flags+"p", kind.Elem()
	}
	_, isMessage := reflect.New(kind).Interface().(marshaler)
	switch {
	case kind.Kind() == reflect.Map:
		if kind.Key().Kind() != reflect.String {
			log.Fatalf("%v.%s: a map whose keys are no strings", of, field.Name)
		}
		flags, kind = flags+"m", kind.Elem()
	case kind.Kind() == reflect.Slice && kind.Elem().Kind() != reflect.Uint8 && !isMessage:
		flags, kind = flags+"r", kind.Elem()
	}
	if name == "" {
		name = "-"
	}
	if flags == "" {
		flags = "-"
	}
	fmt.Fprintf(out, "%s %s %s %s\n", number, name, flags, t.name(kind))
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
			func(f *metav1.FieldsV1, c randfill.Continue) { f.SetRawBytes([]byte(`{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}`)) },
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
