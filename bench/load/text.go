//go:build linux

package load

import (
	"math/rand/v2"
	"strings"
)

// words are the 200 or so most usual ones of English talk: text of them is compressed about as
// well as what people write to each other, unlike random bytes or one repeated line.
var words = strings.Fields(`the be to of and a in that have I it for not on with he as you do at this but his by from
they we say her she or an will my one all would there their what so up out if about who get which go me when make can
like time no just him know take people into year your good some could them see other than then now look only come its
over think also back after use two how our work first well way even new want because any these give day most us is
are was were been has had did said made went got came took saw knew thought told asked felt left called home house
water food car train bus phone work school friend mother father child brother sister night morning today tomorrow
yesterday week month hour minute late early soon never always often maybe please thanks sorry hello yes okay right
wrong happy tired hungry ready great nice funny really very much more less little big small long short old young
where why here again still down off away around before between under through money price shop coffee tea bread milk
dinner lunch party music film book game ticket picture weather rain snow sun cold warm meet call write read send wait
stay leave bring buy pay help start stop open close try need`)

// textsKept is how many different texts a job goes through: enough that a chunk of 4 KiB on disk
// hardly ever holds the same one twice.
const textsKept = 4096

// counterDigits begin each text: the message's number in its conversation, by which the
// receiving side knows what it should be.
const counterDigits = 8

// Texts are ready-made bodies of one length.
type Texts struct {
	bytes int
	texts []string // without the counter
}

// NewTexts draws texts of a length in bytes, counter included. The same seed gives the same texts.
func NewTexts(bytes int, seed uint64) *Texts {
	t := &Texts{bytes: max(bytes, counterDigits), texts: make([]string, textsKept)}
	r := rand.New(rand.NewPCG(seed, 0))
	rest := t.bytes - counterDigits
	for i := range t.texts {
		var b strings.Builder
		for b.Len() < rest {
			b.WriteByte(' ')
			b.WriteString(words[r.IntN(len(words))])
		}
		t.texts[i] = b.String()[:rest]
	}
	return t
}

// Append appends the text of a message: its number in eight hexadecimal digits, then words. stream
// tells conversations apart.
func (t *Texts) Append(dst []byte, stream, counter uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 4 * (counterDigits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, digits[counter>>shift&15])
	}
	// The multiplier is odd, so a stream goes through all texts before one comes again.
	return append(dst, t.texts[(counter*2654435761+stream*40503)%textsKept]...)
}

// parseCounter reads the number that a text begins with; 0 if it is not one of ours.
func parseCounter(text []byte) uint64 {
	if len(text) < counterDigits {
		return 0
	}
	n := uint64(0)
	for _, c := range text[:counterDigits] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0
		}
	}
	return n
}
