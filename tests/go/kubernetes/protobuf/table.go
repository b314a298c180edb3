package main

// The table: it stands by itself, so that `cargo xtask schema others` can build it with other versions of Kubernetes.

import (
	"bufio"
	"fmt"
	"log"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

type marshaler interface{ Marshal() ([]byte, error) }

var scheme = runtime.NewScheme()

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
	reflect.TypeFor[metav1.Time]():          "time",
	reflect.TypeFor[metav1.MicroTime]():     "microtime",
	reflect.TypeFor[metav1.Duration]():      "duration",
	reflect.TypeFor[resource.Quantity]():    "quantity",
	reflect.TypeFor[intstr.IntOrString]():   "intorstring",
	reflect.TypeFor[runtime.RawExtension](): "raw",
	reflect.TypeFor[metav1.FieldsV1]():      "raw",
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
	case reflect.Int32:
		return "int32"
	case reflect.Int64, reflect.Int:
		return "int"
	case reflect.Uint32:
		return "uint32"
	case reflect.Uint64:
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
