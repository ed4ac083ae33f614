// A film of JPEG frames in an MP4 file: one video track, each frame a whole picture. Players know it as MPEG-4 with the
// object type 0x6C. Source: ISO/IEC 14496-12 (boxes), 14496-1 (descriptors), the MP4 registration authority.

export type Film = { width: number; height: number; frames: Buffer[]; framesPerSecond: number };

export function mp4({ width, height, frames, framesPerSecond }: Film): Buffer {
  const head = box("ftyp", text("isom"), u32(0x200), text("isommp41"));
  const data = box("mdat", ...frames);
  const scale = 1000;
  const each = Math.round(scale / framesPerSecond);
  const duration = each * frames.length;
  const samples = box(
    "stbl",
    full("stsd", 0, u32(1), sampleEntry(width, height)),
    full("stts", 0, u32(1), u32(frames.length), u32(each)),
    full("stsc", 0, u32(1), u32(1), u32(frames.length), u32(1)),
    full("stsz", 0, u32(0), u32(frames.length), ...frames.map(({ length }) => u32(length))),
    full("stco", 0, u32(1), u32(head.length + 8)),
  );
  const source = box("dinf", full("dref", 0, u32(1), full("url ", 1)));
  const track = box(
    "trak",
    full("tkhd", 7, u32(0, 0, 1, 0, duration, 0, 0), u16(0, 0, 0, 0), matrix, u32(width << 16, height << 16)),
    box(
      "mdia",
      full("mdhd", 0, u32(0, 0, scale, duration), u16(0x55c4, 0)),
      full("hdlr", 0, u32(0), text("vide"), u32(0, 0, 0), text("frames\0")),
      box("minf", full("vmhd", 1, u16(0, 0, 0, 0)), source, samples),
    ),
  );
  const movie = full(
    "mvhd",
    0,
    u32(0, 0, scale, duration, 0x10000),
    u16(0x100, 0),
    u32(0, 0),
    matrix,
    u32(0, 0, 0, 0, 0, 0, 2),
  );
  return Buffer.concat([head, data, box("moov", movie, track)]);
}

function sampleEntry(width: number, height: number): Buffer {
  const decoder = Buffer.concat([Buffer.from([0x04, 13, 0x6c, 0x11, 0, 0, 0]), u32(0, 0)]);
  const descriptor = Buffer.concat([Buffer.from([0x03, 21, 0, 1, 0]), decoder, Buffer.from([0x06, 1, 2])]);
  return box(
    "mp4v",
    Buffer.from([0, 0, 0, 0, 0, 0, 0, 1]),
    u32(0, 0, 0, 0),
    u16(width, height),
    u32(0x480000, 0x480000, 0),
    u16(1),
    Buffer.alloc(32),
    u16(24, 0xffff),
    full("esds", 0, descriptor),
  );
}

const matrix = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);

function box(type: string, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([u32(body.length + 8), text(type), body]);
}

/** A box with a version (0) and flags. */
function full(type: string, flags: number, ...parts: Buffer[]): Buffer {
  return box(type, u32(flags), ...parts);
}

function text(value: string): Buffer {
  return Buffer.from(value, "latin1");
}

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, index * 4);
  return bytes;
}

function u16(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 2);
  for (const [index, value] of values.entries()) bytes.writeUInt16BE(value, index * 2);
  return bytes;
}
