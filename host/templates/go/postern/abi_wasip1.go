// The canonical ABI of postern:policy@0.1.0. Nothing here is of one policy.

package postern

import "unsafe"

// What the host was given, or wrote, is held until the call is over: the collector does not see what it points to.
var held []any

// Before the runtime is up nothing can be allocated, and what stands between Go and the host wants memory then.
var (
	early     [3 << 13]uint64
	earlyUsed uintptr
	isUp      bool
)

func init() { isUp = true }

//go:wasmexport cabi_realloc
//go:nosplit
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if isUp {
		return reallocated(old, oldSize, align, size)
	}
	at := unsafe.Add(unsafe.Pointer(&early), earlyUsed)
	earlyUsed += uintptr(size+7) &^ 7
	if earlyUsed > unsafe.Sizeof(early) {
		// What is handed out nowhere would be written to address 0.
		panic("too much is asked for before the runtime is up")
	}
	return at
}

func reallocated(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if size == 0 {
		return unsafe.Pointer(&answer)
	}
	made := area(int(size))
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(made), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return made
}

// area is memory for the host, aligned for anything in the contract.
func area(size int) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	made := make([]uint64, (size+7)/8)
	held = append(held, made)
	return unsafe.Pointer(&made[0])
}

// place is where a value of the contract begins, and reads or writes at an offset from there.
type place struct{ at unsafe.Pointer }

func (p place) plus(offset int) place        { return place{unsafe.Add(p.at, offset)} }
func (p place) word(offset int) uint32       { return *(*uint32)(unsafe.Add(p.at, offset)) }
func (p place) long(offset int) uint64       { return *(*uint64)(unsafe.Add(p.at, offset)) }
func (p place) octet(offset int) byte        { return *(*byte)(unsafe.Add(p.at, offset)) }
func (p place) flag(offset int) bool         { return p.octet(offset) != 0 }
func (p place) putWord(offset int, v uint32) { *(*uint32)(unsafe.Add(p.at, offset)) = v }
func (p place) putOctet(offset int, v byte)  { *(*byte)(unsafe.Add(p.at, offset)) = v }

// list is where a list begins, and how long it is.
func (p place) list(offset int) (place, int) {
	return place{unsafe.Pointer(uintptr(p.word(offset)))}, int(p.word(offset + 4))
}

func (p place) text(offset int) string {
	at, length := p.list(offset)
	if length == 0 {
		return ""
	}
	return unsafe.String((*byte)(at.at), length)
}

// textOr is an option of a text: empty where there is none.
func (p place) textOr(offset int) string {
	if !p.flag(offset) {
		return ""
	}
	return p.text(offset + 4)
}

func (p place) bytes(offset int) []byte {
	at, length := p.list(offset)
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(at.at), length)
}

func (p place) texts(offset int) []string {
	at, length := p.list(offset)
	made := make([]string, length)
	for i := range made {
		made[i] = at.text(i * 8)
	}
	return made
}

func (p place) pairs(offset int) []Pair {
	at, length := p.list(offset)
	made := make([]Pair, length)
	for i := range made {
		made[i] = Pair{at.text(i * 16), at.text(i*16 + 8)}
	}
	return made
}

func (p place) putList(offset int, at unsafe.Pointer, length int) {
	p.putWord(offset, uint32(uintptr(at)))
	p.putWord(offset+4, uint32(length))
}

func (p place) putText(offset int, text string) {
	held = append(held, text)
	p.putList(offset, unsafe.Pointer(unsafe.StringData(text)), len(text))
}

func (p place) putTextOr(offset int, text string) {
	p.putOctet(offset, 0)
	if text != "" {
		p.putOctet(offset, 1)
		p.putText(offset+4, text)
	}
}

func (p place) putBytes(offset int, data []byte) {
	held = append(held, data)
	p.putList(offset, unsafe.Pointer(unsafe.SliceData(data)), len(data))
}

func (p place) putTexts(offset int, texts []string) {
	at := area(len(texts) * 8)
	for i, text := range texts {
		place{at}.putText(i*8, text)
	}
	p.putList(offset, at, len(texts))
}

// request reads an operation: 184 bytes.
func request(p place, body *Document) *Request {
	operation := Operation{
		ID:         p.text(0),
		Cluster:    p.text(8),
		ReceivedAt: p.long(16),
		Caller:     Caller{Username: p.text(24), Groups: p.texts(32), Issuer: p.text(40), Claims: p.pairs(48)},
		Verb:       p.text(56),
		Path:       p.text(128),
		Query:      p.pairs(136),
		DryRun:     p.flag(144),
		Approved:   p.flag(176),
	}
	if p.flag(64) {
		operation.Target = &Target{
			APIGroup: p.text(68), APIVersion: p.text(76), Resource: p.text(84),
			Subresource: p.textOr(92), Namespace: p.textOr(104), Name: p.textOr(116),
		}
	}
	if p.flag(148) {
		operation.Command = &Command{Container: p.textOr(152), Argv: p.texts(164), Stdin: p.flag(172), TTY: p.flag(173)}
	}
	return &Request{Operation: operation, Body: body}
}

// behind is what follows an operation.
const behind = 184

// answer is where answers are written: the largest has 56 bytes.
var answer [7]uint64

func answered() place {
	answer = [7]uint64{}
	return place{unsafe.Pointer(&answer)}
}

func verdict(v Verdict) unsafe.Pointer {
	p := answered()
	p.putOctet(0, v.kind)
	switch kinds[v.kind] {
	case "mask":
		at := area(len(v.masks) * 24)
		for i, mask := range v.masks {
			putMask(place{at}.plus(i*24), mask)
		}
		p.putList(4, at, len(v.masks))
	case "block", "terminate":
		p.putText(4, v.reason)
		p.putTextOr(12, v.hint)
	case "require-approval":
		p.putText(4, v.reason)
		p.putTexts(12, v.approvers)
		p.putWord(20, v.required)
		p.putWord(24, v.seconds)
	}
	return p.at
}

func putMask(p place, mask Masking) {
	p.putOctet(0, mask.selector)
	if mask.selector != PodSecrets().selector {
		p.putText(4, mask.what)
	}
	p.putOctet(12, mask.how)
	p.putOctet(13, mask.last)
	at := area(len(mask.when) * 20)
	for i, condition := range mask.when {
		c := place{at}.plus(i * 20)
		c.putText(0, condition.path)
		c.putOctet(8, condition.is)
		c.putText(12, condition.value)
	}
	p.putList(16, at, len(mask.when))
}

//go:wasmexport postern:policy/policy@0.1.0#describe
func exportDescribe() unsafe.Pointer {
	said := defined.describe()
	p := answered()
	p.putText(0, said.name)
	p.putText(8, said.version)
	p.putText(16, said.summary)
	at := area(len(said.rules) * 32)
	for i, rule := range said.rules {
		r := place{at}.plus(i * 32)
		r.putTexts(0, rule.Verbs)
		r.putTexts(8, rule.APIGroups)
		r.putTexts(16, rule.Resources)
		r.putTexts(24, rule.Namespaces)
	}
	p.putList(24, at, len(said.rules))
	p.putOctet(32, said.hooks)
	p.putBytes(36, said.needs)
	p.putOctet(44, said.capabilities)
	p.putText(48, said.schema)
	return p.at
}

//go:wasmexport postern:policy/policy@0.1.0#configure
func exportConfigure(settings unsafe.Pointer, length uint32) unsafe.Pointer {
	err := defined.configure(unsafe.Slice((*byte)(settings), length))
	p := answered()
	if err != nil {
		p.putOctet(0, 1)
		p.putText(4, err.Error())
	}
	return p.at
}

//go:wasmexport postern:policy/policy@0.1.0#on-request
func exportOnRequest(at unsafe.Pointer) unsafe.Pointer {
	p := place{at}
	var body *Document
	if p.flag(behind) {
		body = &Document{p.word(behind + 4)}
		defer documentDrop(body.handle)
	}
	return verdict(defined.onRequest(request(p, body)))
}

//go:wasmexport postern:policy/policy@0.1.0#on-object
func exportOnObject(at unsafe.Pointer) unsafe.Pointer {
	p := place{at}
	object := &Document{p.word(behind)}
	defer documentDrop(object.handle)
	return verdict(defined.onObject(request(p, nil), object))
}

//go:wasmexport postern:policy/policy@0.1.0#on-chunk
func exportOnChunk(at unsafe.Pointer) unsafe.Pointer {
	p := place{at}
	said := defined.onChunk(request(p, nil), Channel(p.octet(behind)), p.bytes(behind+4))
	a := answered()
	a.putOctet(0, said.kind)
	switch said.kind {
	case Replace(nil).kind:
		a.putBytes(4, said.data)
	case EndStream("").kind:
		a.putText(4, said.reason)
		a.putTextOr(12, said.hint)
	}
	return a.at
}

//go:wasmexport cabi_post_postern:policy/policy@0.1.0#describe
func afterDescribe(unsafe.Pointer) { held = nil }

//go:wasmexport cabi_post_postern:policy/policy@0.1.0#configure
func afterConfigure(unsafe.Pointer) { held = nil }

//go:wasmexport cabi_post_postern:policy/policy@0.1.0#on-request
func afterOnRequest(unsafe.Pointer) { held = nil }

//go:wasmexport cabi_post_postern:policy/policy@0.1.0#on-object
func afterOnObject(unsafe.Pointer) { held = nil }

//go:wasmexport cabi_post_postern:policy/policy@0.1.0#on-chunk
func afterOnChunk(unsafe.Pointer) { held = nil }

//go:wasmimport postern:policy/types@0.1.0 [method]document.get
func documentGet(self uint32, path string, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.1.0 [method]document.select
func documentSelect(self uint32, path string, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.1.0 [method]document.json
func documentJSON(self uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.1.0 [method]document.size
func documentSize(self uint32) uint64

//go:wasmimport postern:policy/types@0.1.0 [resource-drop]document
func documentDrop(self uint32)

//go:wasmimport postern:policy/host@0.1.0 look-around
func hostLookAround(which uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/host@0.1.0 annotate
func hostAnnotate(key, value string)

//go:wasmimport postern:policy/host@0.1.0 count
func hostCount(key string, amount uint64, window uint32) uint64

// Document is a Kubernetes object, held by the host. Paths are JSONPath: names, indexes, wildcards, descendants.
type Document struct{ handle uint32 }

func (d *Document) get(path string) (string, bool) {
	var result [3]uint32
	p := place{unsafe.Pointer(&result)}
	documentGet(d.handle, path, p.at)
	return p.textOr(0), p.flag(0)
}

func (d *Document) selected(path string) []Pair {
	var result [2]uint32
	documentSelect(d.handle, path, unsafe.Pointer(&result))
	return place{unsafe.Pointer(&result)}.pairs(0)
}

// JSON is the whole object.
func (d *Document) JSON() string {
	var result [2]uint32
	documentJSON(d.handle, unsafe.Pointer(&result))
	return place{unsafe.Pointer(&result)}.text(0)
}

// Size is how many bytes it came in.
func (d *Document) Size() uint64 { return documentSize(d.handle) }

// around are the documents that were asked for: each is there once, however often it is asked for in a stream.
var around = map[Surrounding]*Document{}

func lookAround(which Surrounding) *Document {
	if known, is := around[which]; is {
		return known
	}
	around[which] = asked(which)
	return around[which]
}

func asked(which Surrounding) *Document {
	var result [2]uint32
	p := place{unsafe.Pointer(&result)}
	hostLookAround(uint32(which), p.at)
	if !p.flag(0) {
		return nil
	}
	return &Document{p.word(4)}
}

func annotate(key, value string) { hostAnnotate(key, value) }

func count(key string, amount uint64, windowSeconds uint32) uint64 {
	return hostCount(key, amount, windowSeconds)
}
