"""The words from which `builtin.py` generates the stories of the builtin corpus, all of which are invented.

Phrases are separated by semicolons. An action is `verbs | objects`: any of its verbs combines with any of its
objects. `win:won` gives an irregular past; a line that ends in a semicolon continues on the next.
{person}, {town}, {place}, {team}, {company}, {n} and {day} are filled in.
"""

from typing import NamedTuple


class Scene(NamedTuple):
    """Subjects and actions: any of `subjects` combines with any line of `actions`."""

    subjects: str
    actions: str


class Topic(NamedTuple):
    """The words of one class. Subjects and actions of `people` combine with those of `SHARED`; `events` don't."""

    name: str
    people: Scene
    events: tuple[Scene, ...]
    contexts: str
    sources: str


SHARED = Topic(
    "shared",
    Scene(
        "officials; the group; the head of the group; critics; organizers; experts; two old rivals; "
        "the committee; a former official; the board; a panel; the union; newcomers; supporters; "
        "the leader; investigators; a judge; young people; the agency; {person}; {person}; {person}; "
        "the team; the network; the city of {place}; lawyers; a court in {place}; the manager; volunteers; "
        "the owners; two partners; a leading figure; the new chairman",
        """
        announce; confirm; welcome; question | the plan; a decision; the new rules; a change of leadership;
            the deal
        face; expect; fear; avoid | a long delay; tough questions; a record year; a difficult week;
            a fight in court
        open; start; end; extend | an inquiry; the campaign; a long partnership; a contest;
            talks on a new deal
        lose:lost; gain; keep:kept; win:won | support; ground; control of the project; a leading role;
            public trust
        prepare; deliver; defend; demand | a response; a clear answer; an apology; more money; a second chance
        study; review; drop:dropped; attack | the offer; a report from {place}; the charges;
            a proposal by {person}
        """,
    ),
    (),
    "on {day}; this week; for the first time in {n} years; after months of delays; late on {day}; "
    "in {place}; by the end of the month; despite the criticism; in a surprise move; with little warning; "
    "next month; again; over the next {n} months; at a news conference in {place}; for now; "
    "after a long fight; under heavy pressure; in a test of strength; with {n} days to go; "
    "after a strong start; in {town}; near {town}; as the year ends",
    "officials; a spokesman; local media; organizers; {person}; a report from {place}; a person close to the talks",
)

WORLD = Topic(
    "World",
    Scene(
        "the prime minister; the president; rebel leaders; government troops; opposition leaders; "
        "peace envoys; the foreign minister; election officials; the interior ministry; militants; "
        "police officers; aid workers; the military; inspectors; human rights groups; President {person}; "
        "the ruling party; the army; protesters; lawmakers; border guards; the rebels; "
        "Foreign Minister {person}; the high court; voters; a militant group; the security council; "
        "refugees; the cabinet; kidnappers; peacekeepers; the separatists",
        """
        sign; reject; back; delay | a ceasefire accord; the peace plan; a draft resolution; a border treaty;
            new talks
        arrest; question; release; free | two bombing suspects; a militant leader; dozens of protesters;
            three hostages
        attack; surround; storm; bomb | a police station; the rebel stronghold; an army convoy; a village;
            the compound
        condemn; denounce; defend; protest against | the raid; a court ruling; the vote; the nuclear program;
            the war
        send:sent; promise; order; seek:sought | more troops; emergency aid; food for flood victims;
            peacekeepers
        leave:left; enter; return to; flee:fled | the capital; the disputed region; the northern province;
            the country
        face; call for; avoid; boycott | an election; a trial for war crimes; sanctions;
            a vote in parliament; a coup
        """,
    ),
    (
        Scene(
            "a car bomb; the flood; a suicide attack; clashes; a strong earthquake; an air strike; gunfire; "
            "the storm; a wave of violence; street protests; the siege; a fire; the typhoon; "
            "a mortar attack; an explosion",
            """
            kill; wound; injure | at least {n} people; {n} soldiers; dozens of civilians;
                two police officers; a mayor
            destroy; damage; hit:hit | homes in the south; a mosque; the main bridge; several villages;
                the embassy
            threaten; overshadow; disrupt; follow | the peace talks; the election; a state visit;
                a fragile truce
            """,
        ),
    ),
    "after two days of talks; near the border; in the capital; amid fears of civil war; "
    "before the elections; despite a ceasefire; under international pressure; in a televised address; "
    "for the third day in a row; at a summit in {place}; after a night of violence; in the disputed region; "
    "ahead of a key vote; in the north; with the backing of the United Nations; during a visit to {place}; "
    "after the attack; along the frontier",
    "diplomats; a government spokesman; witnesses; hospital officials; the foreign ministry; state television; police",
)

SPORTS = Topic(
    "Sports",
    Scene(
        "the defending champions; the home side; the veteran striker; the coach; the visitors; "
        "the top seed; {team}; the young goalkeeper; the captain; {team}; the national team; "
        "the Olympic champion; the club; {team}; fans; the quarterback; the pitcher; the league; "
        "the rookie; the sprinters; the midfielder; the referee; the hosts; the world number one; "
        "striker {person}; coach {person}; the batsmen; the defenders; the favourites; the sailor",
        """
        beat:beat; defeat; hold:held; face | {team}; the league leaders; their old rivals; the champions;
            the top seed
        win:won; lose:lost; reach; miss | the opening match; the final; a playoff place; the title;
            a gold medal
        score; concede; save; celebrate | a late goal; the winning run; two penalties; three touchdowns;
            {n} points
        sign; drop:dropped; trade; replace | a young defender; the leading scorer; the captain;
            a first-round pick
        break:broke; set:set; equal; chase | the world record; a club record; the track record;
            an Olympic record
        leave:left; enter; lead:led; join | the cup; the league; the tournament; the race; the national squad
        attack; criticize; praise; protest against | the referee; the defence; the penalty decision; the pitch
        """,
    ),
    (
        Scene(
            "the match; a knee injury; the season opener; a late goal; the second half; the tournament; "
            "a doping test; the playoff race; heavy rain; the derby; a red card; the transfer; "
            "the third set; the strike; the draw",
            """
            end; delay; decide; spoil | the season; a run of {n} wins; the title race;
                the hopes of home fans; the series
            draw:drew; attract; thrill | a crowd of {n} thousand; the fans; scouts from three clubs;
                a record crowd
            test; trouble; surprise; hit:hit | the defence; the coach; a weakened side; the favourites;
                the league
            """,
        ),
    ),
    "in the final minutes; in extra time; after a goalless first half; at the world championships; "
    "on penalties; in front of a home crowd; in straight sets; in the second round; with a broken finger; "
    "before the deadline; in the cup; for the rest of the season; at the Olympic stadium; on a wet pitch; "
    "with {n} seconds left; after two days of rain; in the group stage; at the open in {place}; "
    "for the third game in a row; on the road",
    "the coach; the club; team doctors; the captain; league officials; his agent; the manager; coach {person}",
)

BUSINESS = Topic(
    "Business",
    Scene(
        "{company}; {company}; {company}; {company}; the central bank; the airline; the carmaker; "
        "the retailer; shareholders; the drug maker; lenders; the oil company; investors; "
        "the chief executive; the finance ministry; regulators; the bank; manufacturers; insurers; "
        "the chain; the brewer; the steel maker; creditors; the fund; the broker; exporters; "
        "the phone company; the software maker; the grocer; trade officials",
        """
        cut:cut; raise; lower; review | its profit forecast; interest rates; prices; the dividend;
            fuel costs; wages
        buy:bought; sell:sold; acquire; value | a stake in {company}; its rival; {n} stores;
            the insurance unit; bonds
        report; post; forecast:forecast; expect | a quarterly loss; higher earnings; record sales;
            weak demand; a profit
        approve; block; back; reject | the merger; a takeover bid; the pay deal; a bankruptcy plan;
            a ${n} million fine
        hire; lay:laid off; train; pay:paid | {n} hundred workers; factory staff; a new finance chief;
            contract workers
        open; close; launch; leave:left | a plant in {place}; {n} stores; an investment fund; the market;
            an office
        settle; face; fight:fought; avoid | an accounting inquiry; a strike; charges of fraud; a price war;
            a lawsuit
        """,
    ),
    (
        Scene(
            "oil prices; shares; the dollar; consumer spending; inflation; retail sales; the trade deficit; "
            "exports; the job market; the stock market; crude futures; factory orders; bond yields; "
            "shares of {company}; profits",
            """
            rise:rose; fall:fell; climb; slip:slipped | {n} percent; sharply; more than expected;
                for a third week
            drop:dropped; jump; gain; ease | in early trading; below forecasts; for a third month;
                by {n} cents
            hurt:hurt; lift; weigh on; support | earnings; the economy; demand for loans; factory output;
                the market
            """,
        ),
    ),
    "in the third quarter; as costs rise; on Wall Street; amid rising fuel costs; to cut debt; "
    "as demand slows; after a weak holiday season; in early trading; under a new pay deal; "
    "ahead of its annual meeting; at a loss; on strong sales; in a deal worth ${n} million; "
    "before the market opens; as investors take profits; this quarter; after two days of talks; "
    "for a third month in a row; on the {place} exchange; to calm shareholders",
    "analysts; the company; traders; a bank report; economists; its chief executive; dealers; a company spokesman",
)

SCIENCE = Topic(
    "Sci/Tech",
    Scene(
        "researchers; {company}; the software maker; the space agency; hackers; engineers; astronomers; "
        "{company}; the search company; the phone maker; a university team; biologists; security experts; "
        "chip makers; web users; the network operator; a start-up; developers; climate scientists; "
        "the music service; programmers; physicists; a team led by {person}; the browser maker; "
        "the astronauts; inventors; the computer company; a research group",
        """
        launch; release; test; unveil | a search tool; a security update; a faster chip; a music service;
            a robot
        discover; study; find:found; describe | a distant planet; a cancer gene; water on Mars; old fossils;
            a new frog
        fix; block; exploit; attack | the software flaw; a virus; spam filters; home computers;
            the security hole
        build:built; design; plan:planned; open | a satellite; a wireless network; a telescope;
            a supercomputer; a lab
        sell:sold; offer; improve; copy | web software; phones with cameras; music online; memory chips;
            mobile games
        sue; join; leave:left; challenge | its rival; a file-sharing network; a patent office;
            an open source project
        measure; map:mapped; track; film | the polar ice; a comet; whales in the deep sea; the human genome;
            a storm
        """,
    ),
    (
        Scene(
            "a computer virus; a worm; the software flaw; spam; a fake web site; the attack; a broken update; hackers",
            """
            infect; slow; target; crash | home computers; the network; thousands of web sites; mobile phones;
                bank sites
            threaten; hit:hit; expose; overload | the browser; e-mail users; company servers; the internet;
                passwords
            """,
        ),
        Scene(
            "the probe; a satellite; the spacecraft; the telescope; the rocket; a private spaceship; "
            "the robot; the rover",
            """
            reach; pass; circle; film | Saturn; the moon; the space station; an asteroid; a distant planet;
                Mars
            send:sent; lose:lost; test; record | pictures from orbit; signals; a new engine; signs of water;
                weather data
            """,
        ),
    ),
    "on the internet; over the web; in the laboratory; after a seven-year journey; for mobile phones; "
    "in orbit; in the next version of its software; over wireless networks; using satellite data; "
    "on home computers; online; to stop spam; with help from volunteers; at a technology show in {place}; "
    "in open source code; in a new study; in the third test of the year; with cheaper memory; "
    "near the south pole; after two days of testing",
    "researchers; the agency; a security firm; the authors of the study; scientists; engineers; astronomers",
)

TOPICS = (WORLD, SPORTS, BUSINESS, SCIENCE)

PLACES = (
    "London; Paris; Madrid; Rome; Berlin; Vienna; Moscow; Kiev; Athens; Istanbul; Cairo; Baghdad; Tehran; "
    "Jerusalem; Kabul; Islamabad; Delhi; Mumbai; Dhaka; Jakarta; Manila; Bangkok; Beijing; Shanghai; Seoul; "
    "Tokyo; Sydney; Melbourne; Auckland; Nairobi; Lagos; Johannesburg; Khartoum; New York; Boston; Chicago; "
    "Houston; Seattle; San Francisco; Los Angeles; Atlanta; Toronto; Montreal; Mexico City; Havana; "
    "Caracas; Bogota; Lima; Sao Paulo"
)
DAYS = "Monday; Tuesday; Wednesday; Thursday; Friday; Saturday; Sunday"
FIRST_NAMES = (
    "Anna; Ben; Carla; David; Elena; Frank; Grace; Hassan; Ivan; Julia; Karim; Laura; Marco; Nadia; Oscar; "
    "Paul; Rosa; Samir; Tanya; Victor; Wei; Yuki; Zoe; Andre; Bianca; Chen; Diego; Emma; George; Helen; "
    "Jan; Kofi; Lena; Miguel"
)
# A long tail of names: any start with any end.
NAME_STARTS = (
    "Al; Bar; Bel; Bran; Cor; Dal; Dun; Ek; Far; Fen; Gar; Hal; Har; Ing; Jor; Kal; Ker; Lan; Lor; Mar; "
    "Mor; Nor; Ol; Pel; Quin; Ran; Ros; Sal; Sor; Tar; Tor; Ul; Van; Vel; Wal; Wes; Yar; Zan"
)
SURNAME_ENDS = (
    "berg; den; dini; ero; etti; ford; gren; ić; ira; kov; lund; man; mann; nov; ova; sen; ski; son; ton; ura"
)
TOWN_ENDS = "bridge; burg; bury; dale; field; ford; ham; haven; low; mouth; port; stad; ton; vale; ville; wick"
TEAM_ENDS = "Rovers; Wanderers; Hawks; Bears; Kings; Giants; Tigers; Rangers; Wolves; Eagles; Pirates; Comets"
COMPANY_ENDS = "Corp; Group; Holding; Motor; Bank; Energy; Air; Media; Mining; Foods; Micro; Telecom; Software; Data"
