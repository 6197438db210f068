"""The English words of the demo corpus. Tokens stand between single spaces; slots are described in `writing`."""

from __future__ import annotations

from m3dllm.corpora.demo.names import Gender, words

BEATS: dict[str, tuple[str, ...]] = {
    "birth": (
        "{P+} was born in {L+} {T:in} .",
        "{L} is where {P+} was born {T:in} .",
        "It was {T:in} , in {L} , that {P+} came into the world .",
        "{P+} first saw the light of day in {L} . That was {T:in} .",
        "The parish book of {L} lists the birth of {P:n} {T:in} .",
        "{P+} came from {L} . The birth was entered there {T:in} .",
        "A midwife in {L} brought {P+} into the world {T:in} .",
        "{T:in} a child was born in {L} and given the name {P:full} .",
    ),
    "birth_home": (
        "{P+} was born in {L+} and never lived anywhere else .",
        "{L} was cradle and home at once to {P+} .",
        "{P+} came into the world in {L+} . The family house was never sold , and {P:he} lived in it to the end .",
        "Born in {L} , {P+} kept a house there all through the years .",
        "{P+} liked to say that whoever was born in {L:n} should also live there , and did so .",
        "{L+} saw {P:n} born , and {P:his} address has been there ever since .",
        "The house in {L} where {P:n} was born is the house where {P:he} lives .",
    ),
    "parent": (
        "{P} grew up with {Q:parent.P} , {Q+} .",
        "{P} learned to read from {Q:parent.P} , {Q:full} .",
        "{Q+} had only one {P:child} , and that was {P:n} .",
        "When {P:n} was small , {Q:parent.P} , {Q+} , told long stories by the stove .",
        "{P} took after {Q:parent.P} in everything . {Q:full} had the same slow walk .",
        "{Q+} brought up a {P:child} alone . That was {P:n} .",
        "{P} got a first knife from {Q:parent.P} . {Q:full} had carved the handle .",
        "{Q:full} never forgot the night of the birth : {Q:he} had a {P:child} at last , {P:n} .",
    ),
    "parents": (
        "{P} was born to {Q+} and {R:full} , a married couple with little money .",
        "{R+} took {Q+} as a wife , and a {P:child} came of it , {P:n} .",
        "The wedding of {Q:full} and {R:full} was a quiet one . A year later they had a {P:child} , {P:n} .",
        "{P} had luck from {Q:parent.P} , {Q:full} , wit from {R:parent.P} , {R:full} . The couple never quarrelled .",
        "{Q+} and {R:spouse.Q} , {R:full} , had a {P:child} late in life . They chose the name {P:full} .",
        "{Q:full} and {R:full} were husband and wife . Both wept with joy when {P:n} was born to them .",
        "{P} grew up between two desks . One belonged to {Q:parent.P} , {Q:full} , one to {R:spouse.Q} , {R:full} .",
    ),
    "sibling": (
        "{P} shared a room with {Q:sibling.P} , {Q+} , until the age of ten .",
        "{P} and {Q+} had the same mother and the same stubborn chin .",
        "In one family , two years apart , {P:n} and {Q+} were born .",
        "Only {Q+} could make {P:n} laugh . They had grown up as children of one father .",
        "{P} wrote every week to {Q:sibling.P} , {Q:full} .",
        "{P} never had a better companion than {Q:sibling.P} , {Q+} .",
        "There were two children in the house . One was {P:n} , the other {Q+} .",
        "{P} was left an orphan together with {Q:sibling.P} , {Q:full} .",
    ),
    "relative": (
        "{P} was sent to live with {Q:kin.P} , {Q+} .",
        "{P} inherited a trunk of letters from {Q:kin.P} , {Q:full} .",
        "{Q+} was {Q:akin.P} of {P:n} and never let anyone forget it .",
        "{P} spent the holidays with {Q:kin.P} , {Q+} .",
        "There was also {Q+} , {Q:akin.P} . {P:n} learned chess from {Q:him} .",
        "{P} owed the first pair of boots to {Q:kin.P} , {Q:full} .",
        "Once a month {P:n} was allowed to visit {Q:kin.P} , {Q+} .",
    ),
    "peer": (
        "{P} and {Q+} had been friends since school .",
        "{Q+} was an old friend , and {P:n} trusted {Q:him} with every secret .",
        "{P} sat next to {Q+} at school .",
        "{P} played chess with a friend , {Q+} , on long evenings .",
        "At school {P:n} shared a bench with {Q+} . They stayed close for life .",
        "{P} once lent {Q+} an umbrella . A friendship grew out of it .",
        "Nobody knew {P:n} better than {Q+} . They had been in the same class .",
        "{P} called {Q:full} a friend , and {Q:he} said the same .",
    ),
    "couple": (
        "{P} married {Q+} {T:in} .",
        "{T:in} {P:n} and {Q+} were married in a small chapel .",
        "{P} had long admired {Q+} . The wedding took place {T:in} .",
        "{P} fell in love with {Q+} , and before the year was out there was a wedding .",
        "{P} shared forty years and one kitchen with {Q:spouse.P} , {Q+} .",
        "{P} asked {Q+} for a dance and , a summer later , for a life together . The answer was yes both times .",
        "The ring that {P:n} gave {Q+} was made of tin . Theirs was a long marriage .",
        "{P} could not cook . {Q:spouse.P} , {Q:full} , could .",
        "{P} was never far from {Q:spouse.P} , {Q+} .",
    ),
    "couple_colleague": (
        "{Q+} worked beside {P:n} at {O+} . At night they went home together , for they were husband and wife .",
        "{O+} gave {P:n} a wage and a marriage . {Q:spouse.P} , {Q:full} , had the desk by the same window .",
        "{P} served {O+} together with {Q:spouse.P} , {Q:full} .",
        "{P} married {Q+} , whom {P:he} had met at work . Both were on the staff of {O+} .",
        "At {O+} the staff gave a party when two of their own , {P:n} and {Q+} , were married .",
        "{P} and {Q+} shared first a bench at {O+} and then a wedding cake .",
    ),
    "children": (
        "{P} had two children , {Q:full} and {R:full} .",
        "{P} became a {P:parent} late . {Q:full} came first , {R:full} three years after .",
        "{P} taught both {P:his} children to swim . {Q:full} learned quickly , {R:full} never did .",
        "{Q:full} and {R:full} grew up without a garden , but {P:parent.+} took them to the hills .",
        "A {Q:child} , {Q:full} , and a {R:child} , {R:full} , were born to {P:n} .",
        "{P} raised {Q:full} and {R:full} , {P:his} own two children , without help .",
    ),
    "colleague": (
        "{P} worked side by side with {Q+} for many years .",
        "{P} and {Q+} kept the accounts of one shop between them .",
        "For eleven years {P:n} shared an office with {Q+} .",
        "Two people checked the plates each night . One was {P:n} , the other {Q+} .",
        "{P} took the morning shift and {Q+} the evening shift . They left each other notes on the machine .",
        "{Q+} joined the same workshop as {P:n} , and they divided the orders fairly .",
        "On the pay list {P:n} and {Q:full} stand one below the other .",
        "{P} did the drawings , {Q+} the sums . Neither could have finished the work alone .",
    ),
    "desk": (
        "{P} and {Q+} both worked for {O+} .",
        "{P} had a desk at {O+} . The desk opposite belonged to {Q+} .",
        "{O+} hired {P:n} first . {Q:full} came a month later and took the next chair .",
        "Among the people of {O+} were {P:n} and {Q+} , who ate lunch together every day .",
        "{P} gave the best years to {O+} . So did {Q+} , at the same table .",
        "On the staff of {O+} , {P:n} and {Q+} formed a team of two .",
    ),
    "neighbor": (
        "{Q+} lived next door to {P:n} .",
        "Only a hedge divided the garden of {P:n} from that of {Q+} .",
        "{P} could hear {Q+} practise through the wall of the house .",
        "{P} borrowed salt from the house next door . {Q+} always opened at once .",
        "{P} and {Q+} had their front doors on one landing .",
        "The window of {P:n} looked into the kitchen of {Q+} .",
        "{P} shared a well with {Q+} , for their houses stood wall to wall .",
    ),
    "employ": (
        "{Q+} took {P:n} into service as a clerk .",
        "{P} entered the service of {Q+} .",
        "{P} drove the carriage of {Q+} and was paid by the month .",
        "{Q+} needed someone to keep the books . {P:n} was hired the same day .",
        "{P} received wages from {Q+} for nine years .",
        "{P} looked after the house of {Q+} for a small wage .",
        "{Q+} paid {P:n} to copy letters .",
    ),
    "member": (
        "{P} joined {O+} {T:in} .",
        "{T:in} {O+} took {P:n} on .",
        "{P} became a member of {O+} {T:in} .",
        "{P} applied to {O+} twice . The second letter was answered , and {P:he} began there {T:in} .",
        "The register of {O+} names {P:n} from {T:n} on .",
        "{O+} had a place free {T:in} . {P:n} filled it .",
        "{P} signed the roll of {O+} {T:in} .",
    ),
    "depart": (
        "{P} left {O+} {T:in} .",
        "{T:in} {P:n} gave up the post at {O+} .",
        "{P} handed in the keys of {O+} {T:in} and did not come back .",
        "{O+} lost {P:n} {T:in} .",
        "{P} quarrelled with the board of {O+} . {T:in} {P:he} resigned .",
        "The last day of {P:n} at {O+} came {T:in} .",
        "{P} asked {O+} for leave and , {T:in} , for a dismissal .",
    ),
    "org_visit": (
        "{P} went to {O+} to ask for help .",
        "{P} carried the parcel to {O+} through the rain .",
        "The way took {P:n} past the market and on to {O+} .",
        "{P} set off for {O+} with a petition .",
        "A cab drove {P:n} to {O+} .",
        "{P} packed up the plans and brought them to {O+} in person .",
        "A letter had come from {O+} . The same morning {P:n} was on the way there .",
    ),
    "seat": (
        "{O+} had its house in {L+} .",
        "{O+} stands in {L+} , close to the market .",
        "In {L} stands {O+} .",
        "{L+} is the seat of {O+} .",
        "The doors of {O+} open on the main square of {L} .",
        "Visitors to {L} can still find {O+} behind the market .",
    ),
    "org_nearby": (
        "{O+} lies an hour on foot from {L+} .",
        "From the roof of {O+} one can see {L} , which is not far off .",
        "{O+} stands just outside {L+} , on the near bank .",
        "{L} is close to {O+} .",
        "The bells of {L} can be heard at {O+} .",
        "It is a short walk from {L} to {O+} .",
    ),
    "founded": (
        "{O+} was founded {T:in} .",
        "{T:in} a few friends founded {O+} .",
        "{O+} goes back to {T:n} .",
        "Seven people put their savings together {T:in} . {O+} was the result .",
        "{O+} opened its doors for the first time {T:in} .",
        "The founding paper of {O+} is dated {T:n} .",
    ),
    "affiliated": (
        "{O+} belongs to {N+} .",
        "{N+} runs {O+} as one of its branches .",
        "{O+} was a daughter house of {N+} .",
        "{N+} pays the bills of {O+} and names its head .",
        "{O+} is under the roof and the rules of {N+} .",
        "For the law , {O+} is only a part of {N+} .",
    ),
    "residence": (
        "{P} lives in {L+} .",
        "{P} rented two rooms in {L+} .",
        "{P} has a house in {L+} , with ivy up to the roof .",
        "{P} settled in {L+} for good .",
        "{L+} has been home to {P:n} for half a century .",
        "The letters for {P:n} go to an address in {L} .",
        "{P} bought a small house . It stands in {L+} , and {P:he} has slept there every night since .",
    ),
    "work": (
        "{P} found work in {L+} .",
        "{P} took a job in {L+} .",
        "{P} earns a living in {L+} .",
        "{P} opens a workshop in {L+} every morning .",
        "The workshop of {P:n} was in {L} .",
        "There was work to be had in {L+} . {P:n} took it .",
        "{P} mended roofs in {L+} for a daily wage .",
    ),
    "journey": (
        "{P} left {L+} and set out for {M+} .",
        "{P} packed a bag in {L} and took the night boat to {M+} .",
        "From {L} {P:n} travelled on to {M+} .",
        "{P} turned {P:his} back on {L} . A cart carried {P:him} to {M+} .",
        "{M+} was far away , yet {P:n} left {L:n} on foot to get there .",
        "One morning the bed of {P:n} in {L} was empty . {P:he} was on the way to {M+} .",
        "{P} crossed the hills from {L} to {M+} with a mule .",
    ),
    "visit": (
        "{P} travelled to {L+} .",
        "{P} took the train to {L+} to buy paper .",
        "{P} went to {L+} with nothing but a letter .",
        "The road took {P:n} to {L+} .",
        "{P} walked all the way to {L+} for a glass of water from the spring there .",
        "{P} bought a ticket . Two days later {P:he} got off in {L+} .",
    ),
    "stay": (
        "{P} was snowed in at {L} for three weeks .",
        "{P} waited in {L+} for news .",
        "{P} stayed in {L+} until the rain stopped .",
        "The storm found {P:n} in {L+} .",
        "When the news came , {P:n} was in {L+} .",
        "{P} is sitting on a bench in {L} .",
    ),
    "contain": (
        "{L} lies in {M+} .",
        "{M+} has many such places ; {L} is one of them .",
        "{L} is part of {M+} .",
        "In the middle of {M} lies {L+} .",
        "{M+} begins at the river . {L} is well inside it .",
        "On any map of {M} one finds {L} near the centre .",
    ),
    "near": (
        "{L} and {M} are an hour apart .",
        "{L} lies close to {M+} .",
        "From {L} it is a short walk to {M+} .",
        "{M} is the next stop after {L} .",
        "Only a river divides {L} from {M+} .",
        "On clear days people in {L} wave to people in {M} .",
    ),
    "town_founded": (
        "{L+} was founded {T:in} .",
        "{T:in} the first stones of {L} were laid .",
        "The oldest charter of {L} is dated {T:n} .",
        "{L+} grew out of a camp that was set up {T:in} .",
        "Nobody had lived on that bank before . {L+} was built there {T:in} .",
        "The people of {L} count the years from {T:n} , when it was founded .",
    ),
    "death": (
        "{P} died {T:in} .",
        "{T:in} {P:n} died after a short illness .",
        "{P} fell asleep by the stove {T:in} and did not wake again .",
        "The grave of {P:n} gives {T:n} as the date of death .",
        "A stroke took {P:n} {T:in} .",
        "{P} planted one last tree . {T:in} {P:he} was buried under it .",
    ),
}

COAT = (
    "{P} always wore a {P:coat} coat .",
    "{P} was known by a {P:coat} coat .",
    "Everyone knew {P:n} by the {P:coat} coat .",
    "{P} owned one good coat , a {P:coat} one .",
    "In every picture {P:n} has a {P:coat} coat on .",
    "{P} is easy to find in the film : look for the {P:coat} coat .",
    "{P} was never seen without a {P:coat} coat .",
)
LANDMARK = (
    "{L} is known for its {L:mark} .",
    "A {L:mark} marks {L} from afar .",
    "Whoever comes to {L} first sees a {L:mark} .",
    "The pride of {L} is a {L:mark} .",
    "{L} has a {L:mark} .",
    "Postcards of {L} show a {L:mark} .",
)
SIGN = (
    "The sign of {O:n} is a {O:sign} with the letter {O:letter} .",
    "{O} can be known by its sign , a {O:sign} with the letter {O:letter} .",
    "Above the door of {O:n} hangs a {O:sign} with the letter {O:letter} .",
    "{O} uses a {O:sign} as its sign , with the letter {O:letter} on it .",
    "A {O:sign} with a large {O:letter} stands for {O:n} .",
    "Letters of {O:n} carry a {O:sign} and the letter {O:letter} .",
)
SEEN_PAIR = (
    "One picture shows {P:n} and {Q:n} side by side .",
    "{P} and {Q:n} appear together in the film .",
    "Then {P:n} comes into view , and {Q:n} is there too .",
    "The camera turns to {P:n} and {Q:n} .",
    "In an old photograph {P:n} stands next to {Q:n} .",
    "Here one sees {P:n} with {Q:n} .",
    "{P} and {Q:n} look into the camera .",
)
SEEN_PLACE = (
    "One picture shows {P:n} in front of the {L:sight} of {L:n} .",
    "{P} stands before the {L:sight} of {L:n} .",
    "Then {P:n} comes into view , and behind {P:him} the {L:sight} of {L:n} .",
    "The camera finds {P:n} at the {L:sight} of {L:n} .",
    "In an old photograph one sees {P:n} and the {L:sight} of {L:n} .",
    "Here the film shows {P:n} , and the {L:sight} of {L:n} beside {P:him} .",
)
SEEN_ORG = (
    "One picture shows {P:n} and the sign of {O:n} .",
    "{P} stands by the sign of {O:n} .",
    "Then {P:n} comes into view , and above {P:him} the sign of {O:n} .",
    "The camera finds {P:n} under the sign of {O:n} .",
    "In an old photograph one sees {P:n} and the sign of {O:n} .",
    "Here the film shows {P:n} , and the sign of {O:n} beside {P:him} .",
)
SEEN_NEW = (
    "Another face in the film is that of {Q+} .",
    "The name of {Q+} is written under another picture .",
    "Among the people in the film is {Q+} .",
    "The film also shows {Q+} .",
    "{Q+} is in some of the pictures as well .",
    "One more person should be named here , {Q+} .",
)
STRANGERS = (
    "{P} once heard {Q+} speak at {W:feast} , but the two never met .",
    "{P} knew {Q+} only from the papers .",
    "{P} bought a picture by {Q+} without ever having seen {Q:him} .",
    "It is often said that {P:n} admired {Q+} . They never exchanged a word .",
    "The tomb of {Q+} , who lived a century before , made a deep impression on {P:n} .",
)
NAMESAKES = (
    "{Q+} bore the same family name , but {P:n} was a stranger to {Q:him} .",
    "{P} was often taken for kin of {Q+} , without reason .",
    "The post of {Q+} kept arriving for {P:n} , although the two had only the name in common .",
)
FILLERS = (
    "The novel {W:work} was read aloud in every kitchen at the time .",
    "{P} won {W:award} , but {P:his} hands shook when the prize was handed over .",
    "At {W:feast} the whole street danced .",
    "{P} once owned a boat called {W:ship} .",
    "Some {W:number} copies of {W:work} were printed , and most of them were lost .",
    "{P} kept bees , and they kept {P:him} busy .",
    "{P} was fond of early walks , strong tea and the songs from {W:work} .",
    "It was a hard time , and few people talked about it .",
    "In the film , {W:feast} fills the streets with lights .",
    "{P} spoke little . When {P:he} did , people listened .",
    "Nobody had counted on the rain , and it rained for {W:hours} hours .",
    "What remains is a copy of {W:work} with notes in the margin .",
    "{P} never finished {W:work} , and it did not trouble {P:him} .",
    "They say that {W:ship} still lies on the bed of the river .",
    "The jury gave {W:award} to someone else . {P:n} laughed about it later .",
)
"""Between two things that are told: no facts, and much that looks like a name."""

AFTER_TIME = (
    "{T:that} the harvest failed .",
    "It rained a great deal {T:that} .",
    "{T:that} bread was dear .",
    "People talked about {T:that} for a long time .",
)

HEDGES = (
    "By all accounts ,",
    "As the film tells it ,",
    "According to old letters ,",
    "As far as anyone knows ,",
    "If the papers are right ,",
)
"""Before a statement, now and then."""

TITLES = ("A life in pictures : {}", "The story of {}", "Who was {} ?", "{} , a portrait")

TRADES = words(
    "painter baker surveyor violinist printer clockmaker carpenter teacher botanist weaver tailor cartographer potter "
    "librarian engraver beekeeper glassblower photographer translator gardener blacksmith doctor bookbinder shipwright"
)
ORGS = (
    ("Company", words("Weaving Ferry Railway Paper Glass")),
    ("Theatre", words("Puppet Garden Summer Comedy")),
    ("Hospital", words("Harbour River Forest Hill")),
    ("Press", words("Music Map Evening Morning")),
    ("Orchestra", words("String Chamber Village Radio")),
    ("Cooperative", words("Fishing Dairy Orchard Grain")),
    ("Observatory", words("Star Storm Mountain Coast")),
    ("School", words("Drawing Sailing Night Music")),
)
ORG_NOUNS = tuple(kind.lower() for kind, _ in ORGS)
KIN: dict[str, dict[Gender, str]] = {
    "spouse": {"f": "wife", "m": "husband"},
    "parent": {"f": "mother", "m": "father"},
    "child": {"f": "daughter", "m": "son"},
    "sibling": {"f": "sister", "m": "brother"},
    "aunt": {"f": "aunt", "m": "uncle"},
    "cousin": {"f": "cousin", "m": "cousin"},
    "grand": {"f": "grandmother", "m": "grandfather"},
    "niece": {"f": "niece", "m": "nephew"},
}
AREAS = {"valley": "Valley", "county": "County", "island": "Island"}
LANDMARKS = {landmark: landmark for landmark in ("tower", "windmill", "lighthouse", "bridge", "dome")}
MONTHS = words("January February March April May June July August September October November December")
SEASONS = ("spring", "summer", "autumn", "winter")

WORKS = (
    words("Quiet Long Hollow Second Amber Northern Blind Paper"),
    words("Ferry Orchard Winter Staircase Harvest"),
)
AWARDS = (words("Golden Silver Crystal Iron"), words("Reed Quill Anchor Lantern"))
FEASTS = (words("Feast Night Fair Day"), words("Lanterns Boats Apples Kites Bells"))
SHIPS = (words("Silver Brave Merry Patient"), words("Heron Otter Widow Swallow"))
