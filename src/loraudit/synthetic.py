"""Seeded, entirely fictional, private-looking records for ``loraudit demo``.

The demo tunes a model on some of these texts and audits it against others of the
same make. Were the texts one template with the names changed, the held-out ones
would teach the model's answer to the tuned ones and the audit would measure little.
So each record is composed: a kind (clinic note, grievance, bank ticket, ...), then
an opening, a random choice and order of body clauses, and at times a closing, each
clause being a small grammar with alternatives, optional parts and invented details.

People, firms, towns and medicines are made-up combinations of listed parts (any
likeness to a real one is chance); telephone numbers are of the 555-01xx range set
aside for fiction, and mail addresses are at the reserved domain example.org.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from loraudit.errors import ConfigError

__all__ = ["labelled_records", "private_records"]

_MAX_WORDS = 90
# A record takes no more body clauses once it has its target of words, which is drawn
# per record so that lengths spread over the range instead of crowding at its end.
_LOWEST_TARGET = 45
_HIGHEST_TARGET = 76
_BLOCK = 4096

# What a field such as {weekday} may become: alternatives parted by ", ", in the
# grammar explained at `_Writer` (fields inside fields included).
_FIELDS_TEXT = """
first: Adaeze, Aiko, Alasdair, Amara, Anouk, Arjun, Astrid, Babak, Beatriz, Bronagh, Callum, Catalina, Chidi,
  Dagny, Dalia, Dariusz, Dilnoza, Eilidh, Emeka, Esra, Farida, Fenna, Florin, Gareth, Giulia, Hamza, Hana,
  Henrike, Ibrahim, Ilse, Imani, Jarek, Jiho, Kalani, Keziah, Kwame, Laleh, Leandro, Linh, Lucinda, Malik,
  Marit, Mei, Minh, Nadia, Naveen, Nerys, Niamh, Odalys, Olamide, Oskar, Paloma, Petra, Priya, Rafael,
  Rosalind, Sanjay, Selin, Soren, Tamsin, Tariq, Tevita, Tomasz, Ulla, Valentina, Viktor, Wanjiru, Winston,
  Xiomara, Yara, Yusuf, Zofia
last: Abernethy, Achterberg, Adeyemi, Aguilar, Almasi, Anselm, Baptiste, Bielski, Brannigan, Castellano,
  Chaudhry, Choi, Corrigan, Dabrowski, Desai, Drummond, Ekholm, Eriksen, Escobedo, Farrow, Fitzwater, Fukuda,
  Galvao, Ghorbani, Grieve, Hadfield, Halloran, Hoang, Ibarra, Ivanic, Jankovic, Jellicoe, Kaplan, Karimov,
  Keane, Kowalczyk, Lindqvist, Llewellyn, Madaki, Moyo-Rowe, Mendoza, Molnar, Nakagawa, Ngata, Novak, Nwabara,
  Oduya, Okonjo, Ostrander, Paek, Pellegrin, Petrov, Quillon, Rahman, Ravenscroft, Rosales, Sandoval, Sato,
  Sinclair, Solberg, Szabo, Takacs, Tembo, Thackeray, Tran, Ueland, Valdivia, Vasquez, Whitlock, Yamada,
  Yilmaz, Zeleke
person: {first} {last}
townhead: Aldre, Brem, Carrow, Dunt, Elms, Fenni, Garth, Hollin, Kes, Larks, Marl, Nethra, Orle, Penn, Quarr,
  Ravel, Sker, Thress, Wisk, Yarr
towntail: bourne, by, combe, den, fold, ford, gate, ham, haven, hurst, ley, mere, mouth, ness, stead, thorpe,
  wick, worth
town: {townhead}{towntail}
streethead: Bellmaker, Candlewick, Cooper, Dovecote, Foundry, Gallery, Heron, Juniper, Kiln, Lantern,
  Millrace, Orchard, Pepper, Quarry, Ropewalk, Saffron, Tannery, Weaver
streettail: Avenue, Close, Court, Hill, Lane, Mews, Road, Row, Street, Terrace
street: % {streethead} {streettail}, %# {streethead} {streettail}, %##[|A|B] {streethead} {streettail}
orghead: Almond & Pike, Brightwater, Cobalt, Driftmoor, Evensong, Fallowfield, Greyling, Halcombe, Ironbark,
  Kittiwake, Larkrise, Marrowby, Northlight, Osprey, Palisade, Quillmark, Redfern, Silverbeck, Tidewell, Umber
orgtail: Analytics, Bakeries, Brothers, Ceramics, Energy, Foods, Freight, Group, Instruments, Logistics,
  Marine, Motors, Packaging, Partners, Services, Textiles
org: {orghead} {orgtail}
dept: accounts payable, claims, customer care, facilities, night dispatch, procurement, quality control,
  research, returns, sales support, the archive, the print room
weekday: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday
month: January, February, March, April, May, June, July, August, September, October, November, December
day: %, 1#, 2[0|1|2|3|4|5|6|7|8]
date: {day} {month}, {month} {day}, {weekday} {day} {month}, {day} {month} 202[2|3|4|5],
  {day}/[%|1[0|1|2]]/202[3|4|5]
birth: {day} {month} 19[4|5|6|7|8|9]#, {month} 19[5|6|7|8|9]#
youth: {day} {month} 201#, {month} 201#
age: [2|3|4|5|6|7|8]#
time: [8|9|10|11].[05|15|25|30|40] am, [1|2|3|4|5|6].[10|20|35|45|50] pm
late: [10|11].[05|15|30|40] pm, [1|2|3|4|5].[10|20|35|50] am
small: two, three, four, five, six, seven, eight, nine
cur: $, £, €
petty: {CUR}%#, {CUR}%#.##, {CUR}%##, {CUR}%##.##
money: {CUR}%##, {CUR}%##.##, {CUR}%,###, {CUR}%,#00, {CUR}1%,###
salary: {CUR}[2|3|4|5|6|7|8|9]#,#[0|5]0, {CUR}[2|3|4|5|6|7|8|9]#,###
phone: 555-01##, [2|3|4|6|7|8|9]##-555-01##, 1-[2|3|4|6|7|8|9]##-555-01##
email: {FIRST}.{LAST}@example.org, {LAST}%#@example.org, {FIRST}{colour}@example.org
ref: [AR|BX|CN|DV|HT|KL|MW|PQ|RS|TZ]-%###, [A|C|E|H|M|R|W]%####/##, %##/%###-[B|F|J|N|V]
job: a bus driver, a chemist, a cellist, a dental nurse, a florist, a geologist, a joiner, a librarian, a lift
  engineer, a midwife, a night porter, a pastry cook, a piano tuner, a roofer, a surveyor, a tax clerk, a
  translator, an actuary, an archivist, an optician
relative: brother, cousin, daughter, father-in-law, godmother, grandfather, grandmother, half-sister, mother,
  nephew, niece, sister, son, stepfather
elder: aunt, father, foster mother, godmother, grandfather, grandmother, mother, stepfather, uncle
kin: daughter, daughter-in-law, godson, granddaughter, grandson, nephew, niece, son, younger sister
pet: beagle, cockatiel, collie, ferret, greyhound, parrot, rabbit, spaniel, tabby, terrier, tortoise, whippet
colour: black, blue, brown, copper, cream, green, grey, maroon, mustard, navy, pink, purple, red, teal, white,
  yellow
room: attic, back bedroom, bathroom, cellar, conservatory, hallway, kitchen, laundry, lounge, pantry, porch,
  study
item: barometer, bookcase, camera, cello, clock, desk lamp, dresser, gramophone, jewellery box, laptop, lathe,
  mirror, microscope, painting, rocking chair, samovar, sewing machine, tea chest, telescope, typewriter
dish: barley soup, borscht, cardamom buns, dal, fish stew, jollof rice, lamb tagine, leek pie, mushroom
  risotto, noodles, pierogi, plum dumplings, rhubarb crumble, tamales
subject: algebra, art, biology, chemistry, drama, French, geography, history, music, physics, Spanish,
  woodwork
symptom: ankle swelling, back pain, blurred vision, chest tightness, dizziness, hip pain, itching, joint
  stiffness, migraine, night sweating, numbness in one hand, reflux, ringing in the ears, shortness of breath,
  sciatica, vertigo
medicine: Almoxine, Brenitol, Calvanol, Dorvesta, Fenquil, Ilvarine, Lumetrin, Morvane, Nolatrex, Pravell,
  Soravex, Tirocet
worry: a hidden debt, a quarrel over {dish}, fear of being sacked by {org}, money owed to {first}, not
  sleeping, the {relative}'s drinking, the adoption decision, the affair, the exam resit, the miscarriage two
  years ago, the move to {town}, the stepchildren, the {month} wedding, turning %0
"""

# The clauses of each kind. "==" names a kind; "<" marks an opening, ">" a closing and
# anything else a body clause; an indented line carries on the one above.
_MATERIAL_TEXT = """
== clinic visit note
< {FIRST} {LAST}, [aged|age] {age}, [was seen|attended|came in] on {date} [about|because of|complaining of]
  {symptom} [since|going back to] {month}.
< [Seen|Reviewed] [by phone|in room {small}|at the {TOWN} surgery] [on {date}|this {weekday}]: {FIRST} {LAST},
  born {birth}, [file|chart|record number] {ref}.
< Chart {ref}: {FIRST} {LAST}, {job}, presents with {symptom} [and|plus] {symptom}.
< Follow-up for {FIRST} {LAST} ({phone}), {small} [weeks|months] after [the knee scan|starting {medicine}|an
  odd blood count].
< [Dr {last}|Nurse {last}|The duty doctor] [asked|wanted] {FIRST} {LAST} back [before|by] {date} [to
  discuss|to go over] [liver results|the biopsy letter|a raised glucose reading].
{medicine} [was increased|went up|was cut back] to %0 mg [at night|with breakfast|twice daily] [after the last
  dose caused nausea|because readings stayed high|since sleep did not improve].
Blood pressure [stood at|measured|came down to] 1[1|2|3|4]#/[6|7|8]# [sitting|after ten minutes of rest|in the
  left arm][; pulse [6|7|8]# and regular|].
[Nobody at work|Not even the {relative}|Only the {relative}] [has been told|knows] about the
  [diagnosis|referral|test], and {FIRST} [wants|would like] it kept [that way|off the insurer's form|out of
  letters home].
A [shadow|small cyst|mild narrowing] on the [scan|ultrasound] of {date} [calls for|will need] [another
  look|repeat imaging] at {TOWN} General [within {small} weeks|before summer|once bloods are back].
[Admits to|Mentions|Owns up to] [skipping|forgetting] tablets [on night shifts|while travelling|since leaving
  {street}], [roughly|about] {small} doses [a month|in all].
[Family history:|On the maternal side,] [thyroid trouble|early hearing loss|glaucoma|kidney stones] in [an
  uncle|two cousins|a grandparent], [found|diagnosed] at [4|5|6]#.
[Drinks|Gets through] {small} [glasses of wine|beers] [a week|most weekends], [down from|against] nearly
  [double|three times] that [at Christmas|when the business folded|last {month}].
Fertility clinic [letters|results] [arrived|were scanned in] on {date}; [both partners|the couple] would
  [rather|prefer to] [hear the outcome together|wait for a second opinion] [from Dr {last}|].
[Weight|On the scales]: [5|6|7|8|9]#.# kg, [which is {small} kilos lighter than|a shade above|the same as]
  [spring|the {month} visit|the pre-op figure].
[Allergic to|Reacts badly to] [penicillin|latex|sesame|wasp stings]; the [bracelet|alert card] [was lost in
  {town}|has the old surname on it|still lists {medicine}].
[Walks|Cycles|Swims] [to|as far as] the [station|allotment|harbour] [again|without stopping], [though|but]
  {symptom} [returns|creeps back] [by evening|on stairs|in cold weather].
The [fit note|sick line] [covers|runs for] {small} weeks and [says only|states just] '[viral illness|back
  strain|post-operative rest]' [at the patient's request|so {ORG} learns nothing more].
[Hearing|Eyesight|Grip strength] on the [left|right] has [slipped|declined] [slightly|further] since
  [{month}|the fall on {street}]; [aids|new lenses|exercises] [offered|declined for now|on order].
> [Recall|Review] in {small} weeks; [text|ring] {phone}, never the [landline|office].
> [Copy|Letter] to {email} only. [Signed|Entered by] Dr {last}, {time}.
> Plan: [fasting bloods|a sleep diary|physiotherapy at {street}], then [decide on|reconsider] {medicine}.
> [Next of kin|Emergency contact] is now {PERSON}, {phone}.
== HR grievance
< I am [writing to raise|lodging|submitting] a formal grievance [about|against] {PERSON}, [my line
  manager|team lead|head of section] at {ORG}.
< [Case|Grievance] {ref}, [filed|received] {date}: my name is {FIRST} {LAST} and I have [worked|been] [in the
  {TOWN} office|on nights|in {dept}] for {small} years.
< To the {dept} partner, [in confidence|strictly private]: [something happened|matters came to a head] on
  {date} that I [cannot|will not] let pass.
< {FIRST} {LAST}, [staff|badge] number %####, {dept}. This is my [statement|account], [typed|given] on {date}.
[During|In] the {weekday} [stand-up|handover|budget call] {PERSON} [read my sick note aloud|joked about my
  accent|called my report 'decoration'] [in front of {small} [clients|colleagues]|while {small} apprentices
  listened].
My bonus [fell|dropped] from {money} to {money} [without a word of explanation|the same week I asked about
  part-time hours|although my rating was 'strong'].
I [kept|have] [screenshots|a notebook|dated e-mails], [stored|and they are] [with my {relative}|at home|in a
  locked drawer], [covering|going back to] {month}.
[Two|Three] [others|people in {dept}] were [passed over|moved to the {TOWN} depot] [after|for] [returning from
  parental leave|querying overtime|joining the works council].
{PERSON} [messaged|phoned] me at {late} on [my day off|a {weekday} night], [asking|insisting that I explain]
  why [the rota was short|I had seen a doctor|a {money} invoice was late].
[I have [not slept properly|been seeing a counsellor] since {month}|My {symptom} [came back|is worse again]],
  which [occupational health|Dr {last}] [has on file|can confirm].
When I [declined|refused] to [backdate the safety log|sign off {money} of travel|share a colleague's
  password], my [desk|shift|parking space] was [reassigned|taken away] [by {weekday}|within a day].
The [mediation|informal chat] with {first} {last} [lasted|took] %0 minutes and [ended|finished] with [me in
  tears|a shrug|the advice to 'toughen up'].
[A temp named {first}|The night porter|{first} from {dept}] [overheard|saw] [it all|most of this] and [is
  willing|has agreed] to [give a statement|be named|speak privately].
My [disability adjustment|prayer break|nursing room access], [agreed|promised] on {date}, was
  [cancelled|withdrawn] [by text|with a one-line note|as 'unfair to the rest'].
[Exit interviews|Notes] from {first} and {first}, who [both|each] [left|resigned] in {month},
  [describe|mention] the same [remarks|pattern|closed-door talks].
I [would|could] [accept|live with] a [transfer to|desk in] {town}, [but not|never] [another|a further]
  [appraisal|quarter] under {PERSON}.
[As {job} by training|With my record], I [was told|had been promised] the [grade six|senior] post; it
  [went|was handed] to [a nephew of the director|someone with {small} months' service].
> [Please reply|Write to me] at {email}, not [my work inbox|through the switchboard].
> I [ask for|want] [a written apology|an outside investigator|my original hours back] [by {date}|and nothing
  more].
> Union rep [{first} {last}|informed]: {phone}. Do not [copy|forward this to] {PERSON}.
> Signed, {FIRST} {LAST}, {street}, {TOWN}.
== bank-support ticket
< Ticket {ref}: [customer|account holder] {FIRST} {LAST} [called|rang|wrote in] at {time} [about|disputing]
  {money} [taken|debited] on {date}.
< [Chat|Branch note], {TOWN}, {date}. {FIRST} {LAST} [passed|failed once, then passed] [security|voice
  verification] [using|with] [the name of a first pet|a passcode|date of birth {birth}].
< [Savings|Current|Joint] account ending %###, [held by|in the name of] {FIRST} {LAST} and {PERSON},
  [flagged|escalated] [overnight|at {time}].
< {FIRST} {LAST} ({email}) [wants|asks] to [close|freeze|split] the joint account [without alerting|before
  telling] {PERSON}.
The card was [last seen|left] at [a bakery|a petrol station|the swimming baths] in {town}; [since
  then|afterwards] {small} [contactless|online] payments [went through|cleared], the [largest|biggest]
  {money}.
Balance [fell|slid] to {money} [after|once] [rent|the school fees|a gym contract] [left|went out], so the
  [standing order|direct debit] to {org} [bounced|was returned].
[Customer|Caller] [broke down|became upset], [explaining|saying] that [redundancy from {ORG}|a separation|the
  funeral] [had eaten|swallowed] the [emergency fund|overdraft].
A transfer of {money} [meant|intended] for [a builder|the {relative}|a deposit on {street}] [reached|landed
  with] [a stranger|sort code %#-%#-%#] [through|because of] one wrong digit.
[Adviser|I] [waived|refunded] the {CUR}[1|2|3]# fee [as goodwill|given the hardship marker], [noted|logged]
  under [code|reason] %#.
[Credit score|The affordability check] [shows|brought up] [an old default with {org}|{small} missed payments|a
  loan of {money} in a former name].
New [address: {street}, {TOWN}|mobile: {phone}|e-mail: {email}]; the old one [must|should] [be wiped|no longer
  get letters], [because {PERSON} still lives there|as post goes missing].
[Salary|A pension] of {money} [arrives|is paid] on the [first|last working day|fifteenth] from {ORG};
  [customer|holder] wants it [diverted|sent] to [a sole account|savings ending %###].
[Winnings|An inheritance] of {money} [credited|paid in] on {date} [triggered|set off] the
  [source-of-funds|large deposit] check; [will|solicitor's letter] [uploaded|promised by {weekday}].
[Two|Three] [cash withdrawals|cheques] in {town} were [made|signed] [while the customer was in hospital|on a
  {weekday} by someone else], [possibly|perhaps] the {relative}.
The [mortgage|car loan] [goes into arrears|falls behind] on {date}; [offered|we discussed] [a payment
  holiday|interest-only for {small} months|a term of [1|2]% years].
[Memorable word|Security phrase] was [changed|reset] [after|when] the {relative} [guessed it|read it off a
  {colour} notebook], [second|third] [change|time] this year.
[Crypto|Antique|Ticket] seller '{first}{last}%#' [took|received] {money} in {small} [instalments|parts] and
  [stopped|ceased] [answering|replying] on {date}.
> [Callback|Return call] [booked|due] {weekday} {time} on {phone}.
> Escalated to [fraud|bereavement|collections], [owner|handler] {first} {last}.
> [Do not|Never] [post statements|leave voicemail]; [e-mail|secure message] only.
> Closed [provisionally|pending documents]; [refund|decision] within {small} [working|] days.
== insurance claim
< Claim {ref}: policyholder {FIRST} {LAST}, {street}, {TOWN}, [reports|notified us of] [a loss|damage]
  [on|dating from] {date}.
< [Adjuster|Surveyor] {last} [visited|inspected] {street} on {date} [regarding|for] the [water|fire|storm]
  claim of {FIRST} {LAST}.
< {FIRST} {LAST}, {job}, [seeks|claims] {money} for [a stolen|a wrecked|a scorched] {item} [and|plus] {small}
  smaller [items|pieces].
< [Statement|Recorded call], {date}, {time}. [Insured|Speaker]: {FIRST} {LAST}, policy [HX|QB|ZT]%####.
[A|The] [pipe|boiler valve|washing machine hose] [gave way|burst] above the {room} [while|when] [everyone was
  in {town}|the family slept], [soaking|ruining] the {item} [and|beneath] [a carpet|old photographs].
The [other driver, employed by|van, registered to] {org}, [reversed|rolled] into the [parked|stationary]
  {colour} [hatchback|estate|saloon] [outside|near] the [pharmacy|chapel|school gate].
[Receipts|Invoices] [exist|were found] for {money}; the [rest|remainder] [rests on|is backed by] [wedding
  photographs|a jeweller's valuation|a {relative}'s word].
[Neighbour|Witness] {PERSON} ({phone}) [heard|saw] [breaking glass|a ladder|two people with torches]
  [around|at about] {late}.
[Earlier|Previous] claims: {money} in [2#|20]1# for [a bicycle|hail|lost luggage], [undeclared|disclosed
  late], [which|and this] [worries|concerns] [underwriting|the broker].
[Insured|Claimant] [admitted|conceded] [the alarm was off|a candle was left burning|the back door sticks],
  [asking|hoping] this [would not reach|stays from] {PERSON}.
[Injury|Medical] section: [a cracked wrist|whiplash|a bruised shoulder], {small} weeks [off|away from] {ORG},
  [net|lost] pay {money}.
[Drying|Repair] [quote|estimate] from {org} [came to|stands at] {money}, [almost twice|a third below|close to]
  [our|the loss adjuster's] [figure|reserve].
The {item} [was|had been] [a gift from|left by] [the late {elder}|a former spouse], [insured|listed]
  [separately|under valuables] at {money}.
[Temporary|Alternative] [housing|lodging] at {street}, {town}, [costs|is running at] {money} a [week|month]
  [for {small} people and a {pet}|].
[Excess|Deductible] of {money} [disputed|queried] because [the online form showed less|{first} in sales
  promised none].
[Safe|Jewel box] [contents|inventory]: {small} rings, [a coin set|passports|bearer bonds], [a {colour} watch|a
  locket], all [gone|missing] [since|after] the [party|builders' visit].
[Handwriting|The signature] on the [{month} proposal|form] [differs|looks different] from [the passport|later
  letters]; [an expert's|a specialist's] [opinion|report] [ordered|pending].
> [Interim|First] payment of {money} [released|approved] to account ending %###.
> [Reserve|Liability] [set at|held at] {money}; [reopen|review] on {date}.
> [Contact|Reach] the insured at {email} [after {time}|on weekdays].
> File passed to [special investigations|{first} {last}], [confidential|no letter sent].
== therapist note
< Session {small}, {date}: {FIRST} [arrived early|came in late|sat by the window] and [spoke first about|began
  with] {worry}.
< Client {FIRST} {LAST} ([born {birth}|{ref}]) [returned|resumed] after {small} weeks,
  [tired|calmer|talkative], with {worry} [uppermost|still raw].
< [Intake|First meeting] with {FIRST} {LAST}, {job}, [referred by|sent on by] Dr {last} [over|for] {worry}.
< [Telephone|Video] session, {weekday} {time}. {FIRST} [took the call from|was in] [the car|a stairwell at
  {ORG}|the {room}].
[Described|Recounted] [a dream of|a memory of] [an empty station|missing an exam|the old {room} at {street}]
  and [linked|tied] it to [the {relative}'s move|leaving {town}|the divorce].
[Has not told|Still hides from] {PERSON} that [the job ended in {month}|{money} of savings is gone|there was
  someone else before the wedding].
We [practised|tried] [slow breathing|writing an unsent letter|saying no aloud], [which|and it] [felt silly,
  then useful|brought relief|led to laughter].
Sleep: [four|five|six] hours, [waking|up] at {late}, [often|mostly] [rehearsing|replaying] [the {weekday}
  meeting|a quarrel with the {relative}].
[Guilt|Anger|Shame] about [putting the {relative} into care|not attending a funeral in {town}|lying on the
  {ORG} application] [surfaced|came up] [halfway|near the end].
[Wants|Plans] to [move in with|propose to|leave] {PERSON} [by {month}|before the lease ends], [though|yet]
  [each visit|every plan] [ends|stops] in [silence|the same argument].
The {pet} [died|was rehomed] in {month}; [grief|crying] [surprised|embarrassed] {FIRST}, who [keeps|carries]
  [its collar|a photograph] [in a coat pocket|at work].
[Panic|Racing heart] [on the bus|in lifts|during roll call] [down to|now] {small} [times|episodes] a
  [week|month], [helped|eased] by [counting tiles|{medicine}|music].
[Childhood|Early years] in {town}: [a strict|an absent|a much-loved] {relative}, [frequent moves|money kept in
  tins|long silences at meals], [no one to tell|one kind teacher].
[Gambling|Online shopping|Late-night gaming] [has stopped|is back] [since {date}|after {small} clean months];
  [total|losses] [near|about] {money}, [known only here|hidden in a {colour} folder].
[Proud of|Pleased about] [speaking at the {relative}'s wedding|asking {ORG} for leave|cooking {dish} for
  friends], [the first|a small] [victory|step] [this year|since spring].
[Questions|Doubts] about [faith|orientation|whether to have children] [were named|came out] [carefully|for the
  first time], with [a request|the plea] that [nothing be written to the GP|the {relative} never hear].
[Colleague|Housemate] {first} [keeps|has been] [borrowing money|commenting on weight|reading the diary], and
  {FIRST} [rehearsed|drafted] [a boundary|what to answer].
> [Homework|Before next time]: [a worry list|one walk alone|phone the {relative}]. Next: {date}.
> No [risk|safety] concerns today; [fee|balance] {CUR}%# [outstanding|paid in cash].
> [Supervision|Discuss]: my own [impatience|fondness] here. [Keep|Lock] these notes [separate|away].
> [Cancel|Change] sessions by text to {phone} only.
== tenant complaint
< I [rent|live at] {street}, {TOWN}, and have [done so|paid on time] since {month}; [the agent|my landlord] is
  {PERSON}.
< Dear [{ORG} Lettings|Housing Officer|Ms {last}], this is my [third|fourth|final] [letter|complaint]
  [about|concerning] {street}.
< [Reference|Tenancy] {ref}. {FIRST} {LAST}, flat %#, {TOWN}: [urgent|unresolved] since {date}.
< My name is {FIRST} {LAST}; I [pay|am charged] {money} a month for [two rooms|a basement|half a house] on
  {street}.
[Black mould|Damp] has [spread|crept] [behind|across] the {room} [wall|ceiling], and my {relative}, who has
  [asthma|a weak chest], [now sleeps|had to sleep] [in the {room}|at a friend's].
{PERSON} [used the spare key|entered|walked in] on {date} [without notice|while I was bathing|with two
  strangers] and [photographed|looked through] [my desk|the cupboards|our letters].
The boiler [died|failed] on {date}; [an engineer|somebody] from {org} [came|turned up] [once|at {time}],
  [shrugged|took the cover] and [never returned|left].
[Upstairs|Next door], [someone called {first}|the new lodger] [drills|plays drums|argues] [until|from] {late},
  [and|which means] [I am failing my course|the baby wakes|my {pet} shakes].
My deposit of {money} [was never|is not] [protected|registered], [as I learned|I discovered] [from|through] [a
  leaflet|{first} at the advice centre].
[I lost my job at {ORG}|I am between contracts] and [told|confided in] {PERSON} [in good faith|over tea]; [the
  next day|a week later] the rent [rose|went up] by {petty}.
[Mice|Silverfish|Pigeons] [came|got] in [through|by way of] the {room}; I [caught|counted] {small} [on
  {weekday}|last night] and [threw out|lost] [a month of food|two coats|a sack of flour].
The [front lock|intercom|stair light] [has been broken|has failed nightly] since {month}, and [my former
  partner|a debt collector], [whom I fear|who is unwelcome], [knows|has found] the address.
I [withheld|held back] {money} [on advice|for the ruined {item}], and [was called|got labelled] '[difficult|a
  troublemaker]' [in an e-mail to all tenants|by the caretaker].
[The council|An inspector named {last}] [measured|recorded] [1%|8|9] degrees in the {room} and [wrote|issued]
  [notice|report] {ref}.
[Please|Do] stop [telling|asking] [the neighbours|my employer] about my [benefits|visa|arrears]; it is
  [private|nobody's affair] and [already|now] [gossip in the {room}|common talk].
[Our|The] lease [says|states], clause %#, that [repairs|gutters|windows] are [yours|for the owner],
  [yet|still] I [paid|was billed] {money} to {org}.
> I [shall|will] [go to the ombudsman|stop paying|move out] on {date}.
> [Reply|Answer] to {email}; my phone {phone} is [often off|shared].
> [Photographs|Receipts] [attached|enclosed], {small} in all. {FIRST} {LAST}.
> [Keep|Hold] my [new address|whereabouts] from [the agent|{PERSON}].
== school report
< {FIRST} {LAST}, [year|class] {small}, [summer|autumn|spring] report, {TOWN} [School|Academy]: [a mixed|a
  hard|a bright] [term|half-year].
< Pupil file {ref}, [confidential|staff only]. {FIRST} {LAST}, born {youth}, [joined|transferred] from {town}
  in {month}.
< [Notes|Minutes] of the meeting on {date} about {FIRST} {LAST} with [the {elder}|both parents|{PERSON},
  guardian].
< Form tutor {last} [writes|reports]: {FIRST} [has had|comes to the end of] [a quieter|an eventful]
  [term|spring].
[Marks|Results] in {subject} [rose from [4|5]# to [7|8]#, [largely|mainly] because [homework is done at last|a
  tutor was found]|fell from [7|8]# to [4|5]# after [nine missed lessons|a change of teacher]].
{FIRST} [confided|told the nurse] that [there is little food at home on {weekday}s|the {elder} has moved
  out|money is short since {ORG} closed].
[Reads|Writes] [well above|a little below] [the class|age level], [especially|notably] [ghost stories|poems
  about the {pet}|letters], [but|though] [rarely|seldom] [finishes|shares them].
[An incident|A scuffle] on {date} in the [corridor|dining hall|changing room] [with|involving] {first} ended
  in [handshakes|one day's exclusion|a phone call home].
The [educational psychologist|specialist], Dr {last}, [suspects|suggests] [dyslexia|attention difficulties|a
  hearing problem]; the [family|{elder}] [asks|prefers] that [classmates not know|no label be used].
[Free meals|A bursary of {money}] [approved|granted] in {month}; [trip|uniform] costs [to be waived|covered],
  [discreetly|without letters in the bag].
In {subject}, {FIRST} [built a model bridge|gave a talk on volcanoes|performed a song about {town}]
  [that|which] [silenced|delighted] the [room|panel].
Attendance [stands|is] at [7|8|9]# per cent, with [unexplained|repeated] [absences|lateness] on {weekday}s
  [linked|due] to [caring for the {elder}|a custody handover|bus trouble].
[Cries|Withdraws] [before|during] [tests|swimming|assemblies], [less|more] since [{first} left|the seating
  changed]; a [card|pass] lets {FIRST} [sit|wait] [in the library|with Mrs {last}].
[Phone|Tablet] [confiscated|handed in] {small} times; [messages|photographs] [found|shown] were [unkind rather
  than serious|passed to the safeguarding lead].
[Collected|Picked up] only by [the {elder}|{PERSON}], [password|code word] '{colour} {pet}'; [the father|the
  other parent] [may not|is not to] [attend|telephone].
[Sports: [captain of the relay|goalkeeper]|Music: [second violin|alto, reluctantly]], [generous|patient] with
  [beginners|younger pupils], [hopeless|careless] with [kit|timekeeping].
[Aims|Hopes] to be {job}; [a visit|a trial morning] [is booked|has been arranged] [with {org}|for {date}],
  [parents|home] [not yet told|doubtful].
> [Next|Further] review {date}. [Parent|Home] line: {phone}.
> [Target|Goal]: {small} [books|finished essays] and [earlier nights|one club].
> [Not|Never] to be [copied|shown] to {PERSON}. Head of year {last}.
> [Overall|In sum]: [kind|stubborn|funny], [underestimated|worn out], [worth the effort|improving].
== legal intake
< [Intake|Consultation] {date}, [matter|file] {ref}. Client: {FIRST} {LAST}, {job}, {TOWN}.
< {FIRST} {LAST} [consulted|came to see] us on {date} about [a will|a boundary|a dismissal|custody],
  [opposing|against] {PERSON}.
< Privileged [and confidential|note of call], {time}: {FIRST} {LAST}, {phone}, [introduced by|friend of]
  {first} {last}.
< [New|Prospective] client {FIRST} {LAST} [faces|expects] [a claim by|proceedings from] {ORG} [worth|for]
  {salary}.
[The late {elder}|A great-aunt] [signed|made] a second will in {month}, [witnessed|dated] [at the hospital|by
  a gardener], [leaving|giving] {street} to [a carer|{PERSON}|a donkey charity].
The client [signed|initialled] the [guarantee|partnership deed|settlement] [unread|in a hurry] at {late} [in a
  hotel in {town}|on a car bonnet], and [regrets|disowns] clause %#.
[There is|Client mentioned] an [undisclosed|offshore|old] account [holding|with] {salary}, which {PERSON}
  [does not know of|must not learn about] [before|until] [mediation|the hearing].
{PERSON} [moved|took down] the [fence|hedge] by {small} [feet|metres] [over|during] [the {month} holidays|one
  weekend], [burying|covering] [a drain|the old marker].
The [children|two girls|boys], [aged|now] {small} and [ten|eleven|twelve], [stay|live] with [the
  {elder}|{PERSON}] [on weekdays|in term time]; client [wants|seeks] [sole residence|longer summers|leave to
  move to {town}].
[Dismissed|Let go] by {ORG} on {date} after [reporting|querying] [false timesheets|a {money} rebate|unsafe
  scaffolding]; [was offered|was pressed to take] {small} months' pay [for silence|].
[Evidence|Papers]: {small} [voicemails|letters], [a {colour} ledger|bank slips], [one recording|a torn
  receipt], [kept|hidden] in [the {room}|a {relative}'s garage].
[Asked|When asked] [directly|twice], client [admitted|accepted] [a caution in 19[8|9]%|having deleted
  e-mails|being overpaid by {money}], [not to be volunteered|which weakens us].
The prenuptial [draft|agreement] [lists|protects] [a vineyard share|the {item}|royalties of {money}],
  [and|but] [the wedding is|guests arrive] on {date}.
[Prospects|Chances]: [fair|about even|poor] [on liability|at trial], [better|good] [on costs|in settlement];
  [counsel|Ms {last}] [to advise|doubtful].
[Limitation|The deadline] [expires|runs out] on {date}, [so|hence] [a holding letter|the claim form] [goes
  out|must go] [today|by {weekday}].
[Client's|The] [new|first] partner, {first} {last}, [once|formerly] [worked|acted] for {org}: [run a conflict
  search|check for conflicts] [before|ahead of] [opening|billing].
[Immigration papers|Work permits] of [the {relative}|an employee] [lapse|expire] in {month}; [client|the
  family] [fears|worries] [a call to the authorities|that {PERSON} will use it].
> [Retainer|Deposit] {money} [received|requested]; [conflict|identity] check [clear|outstanding].
> [Write|Correspond] only to {email}. [Fee earner|Handler]: {last}.
> [Next|Diary]: [draft witness statement|meet {PERSON}'s lawyers] {date}.
> [Do not|Never] ring {ORG}, [where colleagues listen|even if urgent].
== travel booking
< Booking {ref}: {FIRST} {LAST} and {PERSON}, {TOWN} to {town}, [out|leaving] {date}, {small} nights.
< [Traveller|Passenger] {FIRST} {LAST}, passport [K|L|P|X]%######, born {birth}, [asks|wants] to
  [change|cancel] [the {weekday} flight|cabin %##].
< [Concierge|Agent] [note|memo], {date}: {FIRST} {LAST} of {ORG} [travels|is going] to {town} [under|using] [a
  maiden name|initials].
< [E-mail|Call] from {FIRST} {LAST} ({phone}): [two seats|a twin room|a sleeper berth] to {town},
  [quietly|without fuss].
The [stay|trip] is [a surprise|an anniversary gift] for {PERSON}, so [no confirmation may|nothing should]
  [reach|go to] [the shared inbox|home], [just|only] {email}.
[Paid|Settled] {money} by card ending %###, [balance|remaining] {money} [in cash|from the {ORG} account] [on
  arrival|by {date}].
[Needs|Requests] [a wheelchair|a fridge for {medicine}|oxygen] [at the gate|between terminals|in the room],
  [condition|reason] [not to be printed|told in confidence].
[The real purpose is|In truth:] [talks with {org} about a takeover|a private clinic appointment|an interview],
  [described|shown] on [the forms|the calendar] as [leisure|a trade fair].
[House|Flat] at {street} [will be|stands] empty [until {date}|for {small} weeks]; [keys|alarm code %###] left
  with [the {relative}|{first} opposite], who [feeds|walks] the {pet}.
[Visa|Entry permit] [refused|delayed] [once|in {month}] [over|because of] [a spelling of {LAST}|an old
  overstay]; [second|fresh] application [lodged|sent] {date}.
[Connecting|Night] [train|ferry] [from|via] {town} at {time}, [coach|seat] %#[A|B|C|D], [facing forward|away
  from the {relative}'s group].
[Child|Minor] {first}, [six|eight|nine], [flies|travels] alone; [handed over|met] by {first} {last},
  [codeword|password] {colour} {item}.
[Hotel|Lodge] [asked|warned] about [last year's unpaid minibar|a broken {item}|the noise on the fourth floor]
  and [wants|took] {money} [as security|up front].
[Dietary|Menu]: [no shellfish|kosher|low salt], [except|apart from] {dish} on [the last night|{weekday}], [one
  small|the only] [indulgence|treat].
[Separate|Adjoining] [rooms|cabins] on [paper|the invoice], [a single key|one bed] in [practice|fact];
  [accounts|{dept}] [sees|gets] [the short version|only totals].
[Insurance|Cover] [declined|loaded] for [a heart rhythm|pregnancy|skiing], [extra|premium] {petty},
  [doctor's|fitness] letter [from Dr {last}|on file].
[A suitcase|A {item}] [went missing|was lost] on the [outbound|{month}] leg: [tag|claim] %#####,
  [contents|inside] {money} and [a wedding dress|contracts|letters].
> [Emergency|Home] contact: {PERSON}, {phone}.
> [Hold|Keep] until {time} {weekday}, then [release|cancel].
> [Loyalty|Club] number %#######; [upgrade|window] if [possible|free].
> [Agent|Booked by] {first} {last}. [Shred|Delete] after [travel|return].
== diary e-mail
< Subject: [things I can't say aloud|{weekday}, late|note to self]. [Sending this to|Dear] {email}
  [again|because paper gets found].
< {date}, {late}, [kitchen table|night bus|{TOWN}]. [Can't sleep|Rain again|Everyone out].
< Dear [me|future {FIRST}|{first}], [today|this week] I [finally|nearly] [told|lied to] {PERSON} about [the
  money|{town}|the test].
< [Draft, unsent|To be deleted]: I, {FIRST} {LAST}, [have been|am] [pretending|counting] for {small}
  [weeks|months].
I [told {PERSON}|let {PERSON} [believe|think]] I was at [choir|the gym|my {relative}'s], [when|while] [in
  truth|really] I [sat in the car by the river|went to see a flat on {street}|was at the clinic].
[The scale|My bank app] [said|showed] [5|6|7|8]#.#, [less|more] than I [hoped|feared|admit], and I
  [laughed|cried] [into|over] [cold {dish}|the sink|a cushion].
At {ORG} they [gave|handed] my project to {first}, [who|the one that] [copied my slides|cannot spell
  'budget'|smiles too much], and I [clapped|said well done].
I [found|came across] [the {relative}'s letters|a receipt for {money}|an old photograph] in [a coat|the
  {item}|the {room}] and [put it back|burned my toast|said nothing].
[Twelve|Forty|Ninety] days without [a drink|a cigarette|calling {first}]; [nobody|only the {pet}] [has
  noticed|knows], [which is fine|and that hurts].
[Mum|Dad|My {relative}] [forgot|mixed up] my name [on the phone|at lunch], [called me|took me for] {first},
  and [talked about {town}|asked for {dish}] [as if|like] it were 19[6|7|8]#.
[I think|I am sure] I [love|no longer love] [{PERSON}|the person in {dept}], and it [tastes|feels|sounds] like
  [pennies|August|wet wool].
[The lump|The letter] is [probably nothing|benign, they said|being looked at on {date}]; I have [told no
  one|written {small} versions of goodbye|bought new shoes].
[Owe|I owe] {first} {money}, [the dentist|{org}] {money}, [and|plus] [an apology|the truth] to [my
  {relative}|half this street].
[Walked|Ran] [round the reservoir|along {street}|past the old school], [thinking|deciding]: [quit|stay|ask for
  less], [then|and] [bought a {item}|ate {dish} standing up] [instead|].
[Password|Safe combination], since I [forget|lose] everything: {colour}{pet}%# [forwards|with the digits
  reversed], [under|taped to] the {item}.
[Wore|Put on] the {colour} [coat|dress|scarf] and [a stranger|{first} from {dept}] [said|told me] I [looked
  rested|ought to sing], [which was a lie|the kindest thing since {month}|and I blushed].
[Applied|I have applied], [secretly|at {late}], for the [job|course] in {town}; if [they say yes|I get it] I
  [must|will have to] [tell|leave] [the {relative}|everyone].
> [Enough|That's all]. [Lights out|Tea, then bed].
> [Delete|Hide] this, {FIRST}. [Really|I mean it].
> Tomorrow: [ring {phone}|be brave|say it]. [Good night|Enough now].
> [If|Should] anyone [reads|finds] this: [be kind|ask {PERSON}].
== family letter
< My dear {first}, [your letter|the parcel] [came|reached {TOWN}] on {date}, [and|just as] [we were|the whole
  house was] [at supper|packing|arguing].
< Dear {first} and {first}, [forgive|excuse] the [pencil|silence]; [it has been|we have had] [a hard|a
  strange|a crowded] {month}.
< {street}, {TOWN}, {date}. [Dearest|Darling] {first}, [burn|keep] this [one|letter], [please|will you].
< [Little|Big] {relative}, [at last|finally] [some news|an answer] [from|about] [us|{TOWN}].
[Your {relative}|Old {first}|Cousin {first}] [has sold|is selling] the [farm|shop|boat] to {org} for {salary},
  [half|a third] of what [it is worth|Grandfather refused], and [won't|will not] [say why|hear a word].
The [doctor|hospital] in {town} [gave|offered] {PERSON} [a year|tablets called {medicine}|no clear answer];
  [we told nobody|nobody knows], [least of all|not even] [the neighbours|Cousin {first}].
[I enclose|Here is] {money} for [the deposit|your exam fees|boots]; [say|pretend] it [came from|was] [the
  lottery|your godmother], [or|otherwise] {PERSON} will [sulk|want the same].
{first}'s [baby|boy|girl], [born|who came] on {date}, [has|carries] [our ears|the {last} nose], whatever the
  [papers say|priest says].
[We ate|There was] {dish}, [burnt|too salty|perfect], and [three|five] of us [sang|wept|danced] [until|past]
  {late} [in the {room}|on the stairs].
I [found|came upon] [the adoption papers|your first tooth|Father's second passport] [inside|behind] the
  {item}, [and|so now] [you should know|I understand] [about {town}|why they whispered].
[Don't|Never] [lend|give] {first} [money|the car] again: the [debt|bill] to {org} is {money} and [the wedding
  ring is pawned|the wages are spent by {weekday}].
[Your {relative} and I|We two] have [separate rooms|not spoken] since {month}, [politely|without anger],
  [because of|over] [a letter from {town}|the will|the {pet}, of all things].
The {pet} [ate|buried|broke] [a hearing aid|the best slippers|Grandmother's spoon] and [was forgiven|slept on
  your bed] [at once|as if nothing happened].
[After|Since] the [stroke|operation|fall] {PERSON} [says|writes] [only nouns|your name for everyone], yet
  [hums|plays cards] [like a thief|as ever] and [asks|waits] [for you|daily].
The [plot|grave] [beside|near] [your {relative}|the yew] [is paid|costs {money}]; the [key|deed] [lies|is] [in
  the {colour} tin|with lawyer {last}], [for when it is needed|don't be shocked].
[Come|Can you come] [home|to us] [by|before] {date}; [the {room} is painted {colour}|your bed is aired], and
  [there are things|I have matters] [better spoken|not for paper].
At [the wake|church|market], {PERSON} [asked|enquired] about your [divorce|scholarship|new friend], and I
  [said|answered] [it rained a lot|what we agreed].
> [Kisses|Love] from [all|both] of us, [your {relative}|{FIRST}].
> [Ring|Telephone] {phone} when [they are asleep|you can talk].
> [Your|Ever your] [loving|stubborn] {relative}, {FIRST} {LAST}.
> P.S. [Not a word|Say nothing] to {PERSON}.
== care-home log
< [Night|Day] log, room %#, {date}: resident {FIRST} {LAST}, [aged|age] [8|9]#, [settled|restless]
  [from|until] {late}.
< {FIRST} {LAST} ([formerly|once] {job}) [moved|came] to us from {street}, {TOWN}, [in|late] {month}.
< [Handover|Shift note] {ref}, {weekday}. {FIRST} {LAST}: [ate half|refused lunch|asked for {dish}].
< [Keyworker|Carer] {first} [writing|reports]: [a good|a slow|an odd] [morning|evening] for {FIRST} {LAST}.
[Asked|Kept asking] [for|after] {PERSON}, [who died|gone] in {month}; [I said|we answered] [they were at
  work|nothing and held hands], and [the tea helped|the crying passed].
[Pension|Wallet] [count|money]: {petty} [short|missing] since {weekday}; [the {kin}|a visitor] [signed in|was
  alone with the drawer] at {time}.
[Fell|Slid] [by the {room}|reaching for the {item}] at {time}, [graze|bruise] on the [left|right]
  [elbow|shin], [{kin}|family] [told|informed] [by message|at once].
[Swallowed|Took] {medicine} [in jam|after coaxing], [hid|spat out] the [evening|second] dose [in a
  slipper|under the {item}]; [pharmacist|Dr {last}] [rung|asked].
The {kin} [visited|came] for the first time since {month}, [quarrelled|talked] [about|over] [selling
  {street}|the will|unpaid fees of {money}], [left|was gone] [before|by] {time}.
[Sang|Recited|Whistled] [a harvest song|the stations to {town}|half a psalm] [while being shaved|as the hoist
  went up|at breakfast], [word-perfect|with actions].
[Continence|Skin] [chart|check]: [dry overnight|pads changed {small} times|red heel, cream used], [dignity
  kept|door shut], [please knock|no students].
[Wanders|Was found walking] [towards|near] the [bus stop|laundry] [with|carrying] [a packed bag|a framed
  photograph|a {colour} hat], [convinced|sure] [{ORG} was waiting|it was 19[5|6]#].
[Do-not-resuscitate|Funeral] [form|wishes] [signed|renewed] {date}, [copy|original] with [{PERSON}|the
  surgery]; [two|some] of the [children|family] [do not know|disagree].
[Spoke|Told me] [at {late}|over cocoa] [about|of] [a first marriage in {town}|a child given up|stolen apples
  and a {item}], [and|then] [made me promise|slept soundly].
[Teeth|Glasses|Hearing aid] [lost|mislaid] [again|{weekday}]; [turned up|seen] [in the {pet}'s basket|with
  {first} in room %#|inside a {item}].
[Now|Weighed] [4|5|6]#.# kg, [down|minus] {small} [hundred grams|kilos] [this month|since {month}];
  [fortified|thick] [soup|milk], [finger food|{dish} mashed].
[Pressed {petty} into my hand|Left {petty} in an envelope marked {first}], [returned|handed in], [manager
  {last} witnessed|{last} in the office has the slip].
> [Ring|Call] [the {kin}|{PERSON}] on {phone} [after {time}|only if worse].
> [Hourly|Two-hourly] checks. [Initials|Signed] {first} {last}.
> [Power of attorney|Fees] [query|letter] to {email}.
> [Quiet|Asleep] by {late}. [Curtains|Lamp] [as liked|left on].
== hiring debrief
< [Debrief|Panel note] on {FIRST} {LAST}, [candidate|applicant] for {dept} at {ORG}, {date}.
< {FIRST} {LAST}, [presently|until {month}] {job} [with|at] {org}, [interviewed|met us] on {weekday} at
  {time}.
< Candidate {ref}: {FIRST} {LAST}, {email}, [expects|asks] {salary} [and|plus] [a car|a day at home|moving
  costs].
< [Private|Panel only]: {PERSON} and I [disagree|agree] [about|on] {FIRST} {LAST}, [seen|met] [twice|on
  {date}].
[Referee|Former boss] {first} {last} [said|hinted], [off the record|after a pause], that [tills never
  balanced|the exit was negotiated|nobody worked harder].
[Explained|Filled in] the [gap|{small}-month hole] [in|after] 20[1#|2[0|1|2]] [with|by way of] [caring for the
  {relative}|burnout|a failed bakery in {town}], [frankly|with wet eyes].
[Current|Present] pay is {salary}, [not the|against the] {salary} [on the form|claimed]; [payslip|{org}]
  [confirmed|shows] [it|this].
[Technical|Written] task: [%#|solved {small} of nine] [points|parts], [elegant|rushed|copied in places],
  [best|weakest] [so far|of the {weekday} group].
{PERSON} [fears|expects] [a pregnancy|early retirement|a commute from {town}], which I [said|reminded
  everyone] we [cannot|may not] [weigh|record], [so strike this|and yet here it is].
[Has a rival offer from|Is also courted by] {org} at {salary}, [deadline|expiring] {date}; [bluff|genuine],
  [in my view|says the recruiter].
[Asked|Wanted to know] [why|whether] [the last {small} people left|{dept} is being sold|{PERSON} shouts],
  [and|so] we [changed the subject|answered half of it].
[Background|Credit] check [returned|threw up] [a county court judgment for {money}|a second surname|a director
  role at {org}], [undeclared|explained later].
[Health|Adjustment] [form|request]: [screen reader|hearing loop|{weekday} dialysis], [approved|fine],
  [sealed|not] [with nursing|for the file].
[Warm|Stiff|Funny], [drew|sketched] [our supply chain|the org chart] on [a napkin|the window],
  [called|described] [me|the work] [by the wrong name|'like keeping a {pet}'].
[Internal|Inside] [rival|candidate] {first} [does not know|suspects] the post [is decided|was promised],
  [tell|handle] [gently|before {date}].
[Visa|Work permit] [ends|runs out] in {month}; [sponsorship|lawyer {last}] [quotes|asks] {money},
  [charged|booked] [to {TOWN}|under training].
[Left|Resigned from] {org} [because of|over] [a manager named {first}|falsified tests|{symptom}],
  [settlement|secrecy] terms [still bind|bind until {month}].
> [Offer|Counter|Hold]: {salary}, start {date}, [approval|signature] {last}.
> [Shred|Destroy] [scores|sheets] after {small} weeks.
> [Ring|Try] {phone} [at lunch|after {time}], never [the desk|{org}].
> [Vote|Panel]: {small} for, one [against|undecided].
== payroll memo
< [Restricted|Board only], {date}: [pay|headcount] [changes|plan] at {ORG}, {dept}, [prepared|written] by
  {FIRST} {LAST}.
< Memo {ref} from {FIRST} {LAST} to {PERSON}: [the {TOWN} site|{dept}] [closes|is cut] [on|from] {date}.
< {PERSON}, [as agreed|between us], [here are|below are] the [figures|names] for {month}. [Not for|Keep from]
  [the portal|{dept}].
< [Payroll|Pension] [query|correction], staff %####: {FIRST} {LAST}, {job}, {TOWN}.
{first} {last} [goes|moves] from {salary} to {salary}, [backdated|effective] {month}, [to stop a move to|after
  an offer from] {org}.
[Garnishment|A court order] [takes|of] {petty} a month from {first} {last} [for|towards] [maintenance|an
  unpaid {item}|council tax]; [colleagues|the supervisor] [unaware|must not hear].
[Severance|The package] for {PERSON}: {small} months, [car|laptop] kept, [agreed|neutral] [reference|wording],
  [cost|total] {money}, [silence|clause %#] included.
[Sick pay|Leave] for {first} {last} [runs out|ends] {date}; [diagnosis|certificate] [held|sealed] by
  [nursing|Dr {last}], [likely|expected] [ill-health retirement|phased return].
[Bonus|Commission] [pool|pot] [cut|trimmed] to {money}, [yet|while] the [directors|{TOWN} partners]
  [draw|keep] {money} [each|between them], [disclosed|shown] [nowhere|as consultancy].
[An overpayment|An excess] of {money} [went|was sent] to {first} {last} [through|owing to] [a misplaced
  decimal|two clock cards]; [recover|claw back] [over|in] {small} [months|slices].
The [pay gap|audit] [file|table] [has|puts] [women in {dept}|night staff|the {town} team] [1|2]# per cent
  [behind|below], [worse|higher] than [we published|{month}].
[Bank details|The account] of {first} {last} [changed|switched] [by e-mail|at {time}] to [one ending %###|an
  unknown bank]; [I froze|hold] the [{money} run|payment] [pending a call|as suspicious].
[Acquirer|Buyer] {org} [wants|requires] {small} [redundancies|vacancies frozen] [before|ahead of] signing;
  [list|criteria] [locked|kept] in [the {colour} cabinet|my home safe].
[Advance|Hardship loan] of {money} to {first} {last} [after|following] [a house fire|the {relative}'s
  death|eviction from {street}], [repaid|deducted] at {petty} a week.
[Works council|Union] [asks|has asked] for [timesheets|the {month} minutes]; [{PERSON}|counsel] [advises|says]
  [hand over totals|wait until {weekday}|redact {dept}].
[Apprentices|Cleaners|Drivers] in {town} were [paid|kept] [below|under] [minimum|scale] for {small} weeks,
  [arrears|shortfall] {money}, [settle|correct] [quietly|before inspection].
[Retention|Key-person] [letters|deeds] [went|go] to {first}, {first} and {first} only, [worth|at] {money}
  [apiece|each], [vesting|payable] {date}.
> [Approve|Sign] by {weekday} {time}. {FIRST}, {phone}.
> [Print|Make] one copy. [Password|Key] [with|from] {first} {last}.
> [Announce|Go public] {date}, [not before|staff first].
> [Questions|Replies] to {email} [personally|only].
"""

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{([A-Za-z]+)\}")
_DIGIT = re.compile(r"[#%]")
_STRAY_SPACE = re.compile(r" +(?=[.,;:)])")
_EMAIL = re.compile(r"\S+@example\.org")


class _Kind(NamedTuple):
    """The clauses from which one kind of record is composed."""

    name: str
    openings: list[str]
    bodies: list[str]
    closings: list[str]


def _logical_lines(text: str) -> list[str]:
    """The lines of `text`, each indented one joined to the line above it."""
    return text.strip().replace("\n  ", " ").splitlines()


def _read_fields(text: str) -> dict[str, list[str]]:
    """Alternatives of each field, by its name."""
    pairs = (line.split(": ", 1) for line in _logical_lines(text))
    return {name: alternatives.split(", ") for name, alternatives in pairs}


def _read_kinds(text: str) -> list[_Kind]:
    """The kinds of record in the order in which `text` lays them out."""
    kinds: list[_Kind] = []
    for line in _logical_lines(text):
        if line.startswith("== "):
            kinds.append(_Kind(line[3:], [], [], []))
        elif line.startswith("< "):
            kinds[-1].openings.append(line[2:])
        elif line.startswith("> "):
            kinds[-1].closings.append(line[2:])
        else:
            kinds[-1].bodies.append(line)
    return kinds


_FIELDS = _read_fields(_FIELDS_TEXT)
_KINDS = _read_kinds(_MATERIAL_TEXT)


class _Draws:
    """Uniform choices from one seeded stream.

    The stream is read in blocks because a scalar draw costs NumPy microseconds and a
    record takes dozens; what a caller sees does not depend on the block's size.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._block: Iterator[float] = iter(())

    def below(self, bound: int) -> int:
        """An integer from 0 to `bound` - 1."""
        value = next(self._block, None)
        if value is None:
            self._block = iter(self._generator.random(_BLOCK).tolist())
            value = next(self._block)
        return int(value * bound)

    def pick(self, options: list[str]) -> str:
        """One of `options`."""
        return options[self.below(len(options))]


class _Writer:
    """Expands clauses for one record.

    The grammar: ``[a|b|]`` is a choice (nesting, possibly of nothing), ``#`` a digit,
    ``%`` a digit other than 0, ``{field}`` a detail drawn afresh and ``{FIELD}`` one
    that keeps its first value, so that a record speaks of one person throughout.
    """

    def __init__(self, draws: _Draws) -> None:
        self._draws = draws
        self._kept: dict[str, str] = {}

    def sentence(self, clause: str) -> str:
        """One finished sentence (or a few) out of `clause`."""
        text = " ".join(self._expand(clause).split())
        text = _STRAY_SPACE.sub("", text)
        text = _EMAIL.sub(lambda match: match[0].lower(), text)
        return text[0].upper() + text[1:]

    def _expand(self, text: str) -> str:
        # Innermost choices first, so a bracket never holds another when it is read.
        while "[" in text:
            text = _CHOICE.sub(self._choose, text)
        return _FIELD.sub(self._fill, _DIGIT.sub(self._digit, text))

    def _choose(self, match: re.Match[str]) -> str:
        return self._draws.pick(match[1].split("|"))

    def _digit(self, match: re.Match[str]) -> str:
        if match[0] == "#":
            return str(self._draws.below(10))
        return str(1 + self._draws.below(9))

    def _fill(self, match: re.Match[str]) -> str:
        name = match[1]
        if name in self._kept:
            return self._kept[name]
        value = self._expand(self._draws.pick(_FIELDS[name.lower()]))
        if name.isupper():
            self._kept[name] = value
        return value


def _compose(kind: _Kind, draws: _Draws) -> str:
    """One record of `kind`, of `_LOWEST_TARGET` to `_MAX_WORDS` words."""
    writer = _Writer(draws)
    target = _LOWEST_TARGET + draws.below(_HIGHEST_TARGET - _LOWEST_TARGET + 1)
    # One record in six has no opening: in real files, too, many start in the middle.
    sentences = [writer.sentence(draws.pick(kind.openings))] if draws.below(6) else []
    words = sum(len(sentence.split()) for sentence in sentences)
    unused = list(kind.bodies)
    while words < target and unused:
        sentence = writer.sentence(unused.pop(draws.below(len(unused))))
        length = len(sentence.split())
        if words + length <= _MAX_WORDS:
            sentences.append(sentence)
            words += length
    closing = writer.sentence(draws.pick(kind.closings))
    if draws.below(4) and words + len(closing.split()) <= _MAX_WORDS:
        sentences.append(closing)
    return " ".join(sentences)


def _stream(seed: int) -> Iterator[tuple[str, str]]:
    """Endless (kind, text) pairs with no text given twice."""
    draws = _Draws(seed)
    given: set[str] = set()
    while True:
        kind = _KINDS[draws.below(len(_KINDS))]
        text = _compose(kind, draws)
        if text not in given:
            given.add(text)
            yield kind.name, text


def labelled_records(n: int, *, seed: int) -> list[tuple[str, str]]:
    """The records of `private_records`, each with the name of its kind.

    Args:
        n: How many records, 0 or more.
        seed: Start of the random stream, 0 or more.

    Returns:
        `n` pairs of a kind's name (such as ``"clinic visit note"``) and a text.

    Raises:
        ConfigError: If `n` or `seed` is negative.
    """
    if n < 0:
        raise ConfigError(f"the number of records must be 0 or more, not {n}")
    if seed < 0:
        raise ConfigError(f"the seed must be 0 or more, not {seed}")
    return list(islice(_stream(seed), n))


def private_records(n: int, *, seed: int) -> list[str]:
    """`n` distinct fictional private-looking texts of varied kind and structure.

    The texts are English prose, one paragraph of 45 to 90 words
    (whitespace-separated) each. They are a function of `n` and `seed` alone, and
    asking for more only adds to the end: ``private_records(n, seed=s)`` is how
    ``private_records(m, seed=s)`` begins for every ``m`` above ``n``.

    Args:
        n: How many records, 0 or more.
        seed: Start of the random stream, 0 or more.

    Returns:
        The texts, no two equal.

    Raises:
        ConfigError: If `n` or `seed` is negative.

    Example:
        >>> records = private_records(200, seed=7)
        >>> len(set(records))
        200
        >>> records[:50] == private_records(50, seed=7)
        True
        >>> all(45 <= len(record.split()) <= 90 for record in records)
        True
    """
    return [text for _, text in labelled_records(n, seed=seed)]
